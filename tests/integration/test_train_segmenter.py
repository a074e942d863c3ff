"""A segmenter trained for a moment on painted pictures: it learns, exports, and is measured as its card says; the other
commands that train it."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vision.card import read_card
from vision.cli.main import main

COLOURS = np.array([(90, 160, 230), (110, 90, 110), (220, 40, 40)], np.uint8)
SIDE = 32


@pytest.fixture(scope="module", autouse=True)
def _surroundings(tmp_path_factory):
    """Exported networks go to a cache of this module; threads and the level of the log are put back."""
    threads, level = torch.get_num_threads(), logging.getLogger("vision").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIDE32_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)
    logging.getLogger("vision").setLevel(level)


def stride32(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def paint(folder, count, rng):
    """Write noisy pictures of sky above road with a box, and their masks; the uppermost rows are unknown."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(count):
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[rng.integers(10, 22) :] = 1
        y, x = rng.integers(2, 18, 2)
        labels[y : y + 12, x : x + 12] = 2
        picture = COLOURS[labels] + rng.normal(scale=10, size=(SIDE, SIDE, 3))
        labels[:2] = 255
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number:02d}.jpg", quality=95)
        Image.fromarray(labels).save(folder / "masks" / f"{number:02d}.png")


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    """Settings of a small run on twelve pictures, four more to validate."""
    folder, rng = tmp_path_factory.mktemp("segmenter"), np.random.default_rng(0)
    paint(folder / "data" / "train", 12, rng)
    paint(folder / "data" / "val", 4, rng)
    (folder / "data" / "classes.txt").write_text("sky\nroad\nbox\n")
    (folder / "run.toml").write_text(
        f'data = "{folder / "data"}"\nout = "{folder / "run"}"\nname = "tiny"\nbackbone = "lenet5_rgb"\n'
        "pretrained = false\nstride = 2\ncrop_hw = [32, 32]\nloss_stride = 1\nscale_range = [1.0, 1.0]\ncolour = 0.2\n"
        "batch_size = 4\nepochs = 16\neval_every = 8\nlr = 0.01\nwarmup_steps = 2\nema_decay = 0.8\nthreads = 1\n"
        'staged = true\nclass_weights = "median"\ndice_weight = 0.5\ndevice = "cpu"\n'
    )
    return folder / "run.toml"


@pytest.fixture(scope="module")
def trained(run_file):
    assert stride32("train", "segmenter", run_file) == 0
    return run_file.parent / "run"


def test_it_learns_and_leaves_a_model_with_its_report(trained, run_file):
    card = read_card(trained / "tiny")
    assert (card.kind, card.labels) == ("segmenter", ("sky", "road", "box"))
    assert card.architecture["stride"] == 2
    assert "coarsest" not in card.architecture  # the backbone says it
    values = {row["name"]: row["value"] for row in card.metrics}
    assert values["accuracy"] > 0.8
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["mIoU"] == pytest.approx(values["mIoU"], abs=1e-4)
    assert str(run_file.parent) not in card.training["command"] + card.metrics[0]["command"]
    assert len(list((trained / "validation" / "found").glob("*.png"))) == 4
    page = (trained / "report.html").read_text()
    for words in ("IoU of the classes", "What is confused most", "Validation pictures", "share of all pixels"):
        assert words in page
    assert "This report lacks" not in page


def test_eval_prints_the_numbers_of_the_card(trained, run_file, capsys):
    words = ["eval", "segmenter", trained / "tiny", "--data", run_file.parent / "data", "--json", "--device", "cpu"]
    assert stride32(*words) == 0
    printed = json.loads(capsys.readouterr().out)
    for row in read_card(trained / "tiny").metrics:
        assert printed[row["name"]] == pytest.approx(row["value"], abs=1e-3)


def test_the_report_can_be_measured_again(trained, run_file):
    before = json.loads((trained / "metrics.json").read_text())
    assert stride32("report", trained, "--data", run_file.parent / "data") == 0
    assert json.loads((trained / "metrics.json").read_text()) == pytest.approx(before, abs=1e-3)


def test_a_second_round_starts_from_the_first(trained, run_file, tmp_path):
    data = run_file.parent / "data" / "train"  # without its classes.txt, and without a val part
    words = ("--data", data, "--set", 'classes=["sky","road","box"]', "--set", "val_fraction=0.3")
    start = ("--init", trained / "tiny", "--epochs", 1, "--lr", "1e-4", "--out", tmp_path)
    assert stride32("train", "segmenter", run_file, *words, *start) == 0
    card = read_card(tmp_path / "tiny")
    assert {row["name"]: row["value"] for row in card.metrics}["accuracy"] > 0.8
    assert card.metrics[0]["command"].endswith("--holdout 0.3")
    assert [row["name"] for row in card.data] == ["train", "data"]


@pytest.mark.slow
def test_lr_find_and_tune(run_file, capsys):
    assert stride32("lr-find", "segmenter", run_file, "--steps", 30, "--set", f"out={run_file.parent / 'lr'}") == 0
    assert 1e-6 < float(capsys.readouterr().out) < 10
    short = ("--set", f"out={run_file.parent / 'tuned'}", "--set", "epochs=1", "--trials", 2)
    assert stride32("tune", "segmenter", run_file, "--param", "dice_weight=0.0,1.0", *short) == 0
    with (run_file.parent / "tuned" / "tune" / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert all(0 < float(row["val_mIoU"]) < 1 for row in rows)


@pytest.mark.slow
def test_a_time_budget_and_the_largest_batch(run_file, tmp_path):
    words = ("--auto-batch", "--time-budget", "0.03", "--out", tmp_path)
    assert stride32("train", "segmenter", run_file, *words) == 0
    assert "batch_size = 12\n" in (tmp_path / "config.toml").read_text()
    assert (tmp_path / "tiny" / "card.toml").is_file()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: (data / "masks" / "03.png").unlink(), "03.jpg; put 03.png into"),
        (lambda data: Image.new("RGB", (SIDE, SIDE)).save(data / "masks" / "03.png"), "--set palette=voc"),
        (lambda data: Image.new("L", (9, 9)).save(data / "masks" / "03.png"), "32 x 32, got 9 x 9; save it"),
        (lambda data: Image.new("L", (SIDE, SIDE), 7).save(data / "masks" / "03.png"), "got 7; correct the mask"),
    ],
    ids=["missing", "colours", "size", "value"],
)
def test_wrong_masks_end_the_run_before_its_first_step(run_file, tmp_path, capsys, spoil, message):
    paint(tmp_path / "data", 5, np.random.default_rng(1))
    spoil(tmp_path / "data")
    words = ("--data", tmp_path / "data", "--out", tmp_path / "run", "--set", 'classes=["a","b","c"]')
    assert stride32("train", "segmenter", run_file, *words) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "03." in error
    assert not list(Path(tmp_path / "run").glob("*.ckpt"))
