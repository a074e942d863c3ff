"""``stride32 lr-find`` and ``stride32 tune`` on painted rectangles by command line, and training by the result."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vision.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings of a small run on eight pictures, each with one rectangle."""
    folder = tmp_path_factory.mktemp("tuning")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(8):
        image = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
        x, y = rng.integers(0, 32, 2).tolist()
        image[y : y + 30, x : x + 30] = (0, 0, 255)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, 30, 30], "iscrowd": 0})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "red"}]}
    (folder / "data.json").write_text(json.dumps(document))
    (folder / "run.toml").write_text(
        f'train_data = "{folder / "data.json"}"\nval_fraction = 0.25\nout = "{folder / "run"}"\nname = "tiny"\n'
        "pretrained = false\nfreeze_stride = 0\nchannels = 16\nhead_depth = 1\nimage_size = 64\nlong_side = 64\n"
        'anchor_ratios = [1.0]\nbatch_size = 4\nepochs = 1\nthreads = 1\ndevice = "cpu"\n'
    )
    return folder / "run.toml"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Exported networks go to a cache of this module; threads and the level of the log are put back."""
    threads, level = torch.get_num_threads(), logging.getLogger("vision").level
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIDE32_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)
    logging.getLogger("vision").setLevel(level)


def stride32(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_lr_find_prints_a_rate(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("lr-find", "detector", run_file, "--set", "batch_size=6", "--steps", 50)
    assert stride32(*words) == 0
    output = capsys.readouterr()
    assert 1e-6 < float(output.out) < 10
    folder = run_file.parent / "run" / "lr-find"
    assert {path.name for path in folder.iterdir()} == {"lr_curve.csv", "lr_curve.png"}
    assert {path.name for path in folder.parent.iterdir()} == {"lr-find"}
    assert stride32(*words) == 1  # the curve is there
    assert "--overwrite" in capsys.readouterr().err


def test_tune_writes_settings_that_train_takes(run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("tune", "detector", run_file, "--param", "lr=log:1e-3:1e-2", "--param", "head_depth=1,2", "--trials", 2)
    assert stride32(*words) == 0
    best = Path(capsys.readouterr().out.strip())
    assert best == run_file.parent / "run" / "tune" / "best.toml"
    with (best.parent / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 2
    assert set(rows[0]) == {"trial", "state", "val_ap", "epoch", "seconds", "lr", "head_depth", "error"}
    assert stride32("train", "detector", best, "--epochs", 1, "--batch-size", 2) == 0
    assert (run_file.parent / "run" / "tiny" / "card.toml").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tune", "detector", "--param", "lrr=1,2"), "did you mean 'lr'"),
        (("tune", "detektor", "--param", "lr=1,2"), "did you mean 'detector'"),
        (("tune", "detector"), "needs one --param or more"),
        (("tune", "detector", "--param", "dropout=0.5,1.5"), "dropout must be in"),
        (("lr-find", "detector", "--from", "1", "--to", "0.1"), "0 < from < to"),
    ],
)
def test_usage_errors_exit_2(
    words: tuple[str, ...], message: str, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stride32(*words[:2], run_file, "--set", "out=elsewhere", *words[2:]) == 2
    assert message in capsys.readouterr().err
