"""Curves of a run joined over its starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision.figures import DARK, png_bytes
from vision.training.report.history import history_figures, read_history


def write(out: Path, name: str, text: str) -> None:
    path = out / "metrics" / name / "metrics.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_later_starts_replace_the_steps_they_take_again(tmp_path: Path) -> None:
    """The first start was killed after step 29, its last checkpoint was at step 19."""
    write(tmp_path, "version_0", "epoch,loss,step,val_ap\n0,3.0,9,\n0,2.0,19,\n0,,19,0.1\n1,9.0,29,\n")
    write(tmp_path, "version_1", "epoch,loss,step,val_ap\n1,1.5,29,\n1,1.0,39,\n1,,39,0.2\n")
    write(tmp_path, "version_10", "epoch,loss,step\n2,0.5,49\n")
    write(tmp_path, "version_9", "epoch,loss,step\n2,0.7,45\n2,0.6,47\n2,9,49\n")
    history = read_history(tmp_path)
    steps, losses = history.series["loss"]
    assert steps.tolist() == [9, 19, 29, 39, 45, 47, 49]
    assert losses.tolist() == [3, 2, 1.5, 1, 0.7, 0.6, 0.5]
    assert history.series["val_ap"][1].tolist() == [0.1, 0.2]
    assert history.resumed == (29, 45, 49)
    assert history.last_epoch == 3


def test_a_run_begun_anew_is_no_resumed_one(tmp_path: Path) -> None:
    write(tmp_path, "version_0", "epoch,loss,step\n0,3.0,9\n0,2.0,19\n")
    write(tmp_path, "version_1", "epoch,loss,step\n0,2.5,9\n")
    history = read_history(tmp_path)
    assert history.series["loss"][0].tolist() == [9]
    assert history.resumed == ()


def test_half_lines_and_odd_numbers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "version_0", "epoch,loss,step,val_ap\n0,1.0,9,\n0,nan,19,\n0,inf,29,\n0,abc,39,\n0,2.")
    (tmp_path / "metrics" / "version_x").mkdir()
    history = read_history(tmp_path)
    assert history.series["loss"][0].tolist() == [9]
    assert read_history(tmp_path / "absent").series == {}


def test_the_single_file_of_early_runs_is_read(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "metrics.csv").write_text("loss,step\n1.0,9\n")
    assert read_history(tmp_path).series["loss"][1].tolist() == [1]


def test_figures_of_what_there_is(tmp_path: Path) -> None:
    lines = ["epoch,loss,accuracy,lr-AdamW/pg1,lr-AdamW/pg2,lr-AdamW/pg3,step,val_ap,val_ap_small,val_loss"]
    for step in range(60):
        lines.append(f"0,{1 / (step + 1)},0.5,{step * 1e-4},{step * 1e-4},{step * 1e-3},{step * 10 + 9},,,")
    lines += ["0,,,,,,299,0.3,-1,0.7", "0,,,,,,599,0.4,-1,0.6"]
    write(tmp_path, "version_0", "\n".join(lines))
    figures = history_figures(read_history(tmp_path), DARK)
    assert list(figures) == ["loss", "training", "learning-rate", "validation", "validation-errors"]
    legend = figures["learning-rate"].axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["up to 0.059", "up to 0.0059"]
    smooth = figures["loss"].axes[0].lines[1].get_ydata()
    assert np.isfinite(smooth).all()
    assert smooth[0] > smooth[-1]
    assert png_bytes(figures["loss"])
    assert history_figures(read_history(tmp_path / "absent")) == {}
