"""A short training run of a sliding-window detector on painted rectangles: the run folder, mining, resuming, the
exported model, and the command line."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vision.build import build_detector
from vision.card import read_card
from vision.cli.main import main
from vision.detection.config import DetectorConfig
from vision.runtime.config import RuntimeConfig
from vision.training.fit_window import train_window
from vision.training.run import read_metrics
from vision.training.window_config import WindowTrainingConfig
from vision.types import Frame

pytestmark = pytest.mark.slow

PICTURES, EPOCHS, BATCH = 8, 3, 4
TINY: dict[str, Any] = {
    "name": "tiny",
    "pretrained": False,
    "freeze_stride": 0,
    "stride": 4,
    "depth": 0,
    "cells_hw": (2, 2),
    "hidden": 8,
    "size": 12.0,
    "aspects": (1.0,),
    "long_side": 64,
    "scales_per_octave": 1,
    "patch_windows": 5,
    "batch_size": BATCH,
    "mine_every": 1,
    "mine_pictures": 4,
    "mine_conf": 0.001,
    "warmup_steps": 2,
    "ema_decay": 0.0,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White rectangles on noise; train.json holds all pictures, val.json two."""
    folder = tmp_path_factory.mktemp("rectangles")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(PICTURES):
        image = rng.integers(60, 120, (48, 64, 3), dtype=np.uint8)
        (x, y), (width, height) = rng.integers(0, 30, 2).clip(max=20), rng.integers(10, 24, 2)
        image[y : y + height, x : x + width] = 255
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [int(x), int(y), int(width), int(height)]}
        )
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
    for name, count in (("train", PICTURES), ("val", 2)):
        document = {
            "images": images[:count],
            "annotations": annotations[:count],
            "categories": [{"id": 1, "name": "box"}],
        }
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exported networks go to a cache of this module; training changes the number of torch threads, which is undone."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STRIDE32_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def config(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> WindowTrainingConfig:
    return WindowTrainingConfig(
        **TINY,
        train_data=pictures / "train.json",
        val_data=pictures / "val.json",
        out=tmp_path_factory.mktemp("run"),
        epochs=EPOCHS,
        eval_every=EPOCHS,
        data_terms="painted",
    )


@pytest.fixture(scope="module")
def run_folder(config: WindowTrainingConfig) -> Path:
    return train_window(config)


def mined_in(run_folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    checkpoint = torch.load(run_folder / "last.ckpt", weights_only=True)
    pictures, boxes = checkpoint["mined_false_positives"]
    return pictures, boxes


def test_run_folder_and_exported_model(run_folder: Path, config: WindowTrainingConfig, pictures: Path) -> None:
    assert run_folder == config.out
    card = read_card(run_folder / "tiny")
    assert (card.kind, card.labels, card.architecture["family"]) == ("detector", ("box",), "window")
    assert card.data[0] == {"name": pictures.name, "terms": "painted"}
    command = card.training["command"]
    assert command.startswith("stride32 train window --train-data TRAIN --val-data VAL --out DIR")
    assert "--set 'cells_hw=[2,2]'" in command
    assert str(pictures) not in command
    metrics = read_metrics(run_folder)
    assert {row["name"]: row["value"] for row in card.metrics}["ap50"] == pytest.approx(metrics["ap50"], abs=1e-4)
    settings = DetectorConfig(model=str(run_folder / "tiny"), conf=0.0, max_det=5)
    detector = build_detector(settings, RuntimeConfig(device="cpu", engine="torch"))
    image = cv2.imread(str(pictures / "0.png"), cv2.IMREAD_COLOR_RGB)
    assert len(detector.detect([Frame(np.asarray(image, np.uint8))])[0]) > 0


def test_false_positives_are_mined_and_resumed_with(
    run_folder: Path, config: WindowTrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    numbers, boxes = mined_in(run_folder)
    assert len(numbers) == len(boxes) > 0
    assert set(numbers.tolist()) <= set(range(PICTURES))
    with caplog.at_level(logging.INFO, logger="vision"):
        train_window(dataclasses.replace(config, epochs=EPOCHS + 1))
    # The first rounds are still there, and one more has been added at the end of what was the last epoch.
    resumed, _ = mined_in(run_folder)
    assert torch.equal(resumed[: len(numbers)], numbers)
    steps = PICTURES // BATCH
    assert torch.load(run_folder / "last.ckpt", weights_only=True)["global_step"] == (EPOCHS + 1) * steps


def test_frozen_stages_run_beside_the_training(pictures: Path, tmp_path: Path) -> None:
    config = WindowTrainingConfig(
        **{**TINY, "freeze_stride": 4, "depth": 1, "mine_every": 0},
        train_data=pictures / "val.json",
        val_data=pictures / "val.json",
        negatives_data=pictures / "train.json",
        out=tmp_path / "run",
        epochs=1,
    )
    folder = train_window(config)
    assert read_card(folder / "tiny").architecture["depth"] == 1


# --- the command line ---


def run_main(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, words)))
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def test_train_from_the_command_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {
        name: str(list(value)) if isinstance(value, tuple) else str(value).lower() for name, value in TINY.items()
    }
    code, out, err = run_main(
        *("train", "window", "--epochs", 1, "--out", "run"),
        *("--train-data", pictures / "val.json", "--val-data", pictures / "val.json"),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        capsys=capsys,
    )
    assert code == 0, err
    assert out.splitlines()[-1] == "run"
    assert (tmp_path / "run" / "tiny" / "card.toml").is_file()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--train-data", "absent.json"), 1, "check the path"),
        (("--train-data", "train.json", "--set", "classes=bax"), 1, "did you mean 'box'"),
        (("--train-data", "train.json", "--set", "aspects=[]"), 2, "aspects must be > 0"),
        (("--train-data", "train.json", "--set", "patch_window=3"), 2, "did you mean 'patch_windows'"),
    ],
    ids=["no data", "no class", "no aspect", "no such setting"],
)
def test_bad_input_is_one_line(
    words: tuple[str, ...],
    code: int,
    message: str,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(pictures)
    base = ("train", "window", "--out", tmp_path / "run", "--val-data", "val.json", "--set", "pretrained=false")
    found, out, err = run_main(*base, *words, capsys=capsys)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert (found, out, len(lines)) == (code, "", 1), err
    assert message in lines[0]


def test_window_is_short_for_its_model(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("detect", "track"):
        code, out, _ = run_main(command, "a.png", "--window", "--print-config", capsys=capsys)
        assert code == 0
        assert 'model = "person-window"' in out
        code, _, err = run_main(command, "a.png", "--window", "--model", "other", "--print-config", capsys=capsys)
        assert code == 2
        assert "leave one out" in err
