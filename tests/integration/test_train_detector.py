"""A short training run on painted rectangles: the run folder, the exported model, resuming, and the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import subprocess
import sys
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
from vision.store import load_weights
from vision.training.config import DetectorTrainingConfig
from vision.training.fit import train_detector
from vision.training.report.measure import measure_run
from vision.training.report.write import write_report
from vision.training.run import read_metrics
from vision.types import Frame

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
PICTURES, EPOCHS, BATCH = 16, 10, 4
TINY = {
    "name": "tiny",
    "pretrained": False,
    "freeze_stride": 0,
    "channels": 16,
    "head_depth": 1,
    "image_size": 64,
    "long_side": 64,
    "anchor_ratios": (1.0,),
    "scale_range": (0.9, 1.1),
    "batch_size": BATCH,
    "warmup_steps": 5,
    "ema_decay": 0.9,
    "lr": 3e-3,
    "backbone_lr_factor": 1.0,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red and green rectangles on noise, each picture with one or two; train.json holds all, val.json a quarter."""
    folder = tmp_path_factory.mktemp("rectangles")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(PICTURES):
        image = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
        for label in rng.permutation(2)[: 1 + number % 2]:
            (x, y), (width, height) = rng.integers(0, 30, 2), rng.integers(16, 32, 2)
            image[y : y + height, x : x + width] = list(COLOURS.values())[label]
            box = [int(x), int(y), int(width), int(height)]
            annotations.append({"image_id": number, "category_id": int(label), "bbox": box, "iscrowd": 0})
        cv2.imwrite(str(folder / f"{number}.png"), image[:, :, ::-1])
        images.append({"id": number, "file_name": f"{number}.png"})
    categories = [{"id": index, "name": name} for index, name in enumerate(COLOURS)]
    for name, count in (("train", PICTURES), ("val", PICTURES // 4)):
        chosen = [row for row in annotations if row["image_id"] < count]
        document = {"images": images[:count], "annotations": chosen, "categories": categories}
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
def config(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> DetectorTrainingConfig:
    values: dict[str, Any] = {
        **TINY,
        "train_data": pictures / "train.json",
        "val_data": pictures / "val.json",
        "out": tmp_path_factory.mktemp("run"),
        "epochs": EPOCHS,
        "eval_every": 5,
        "data_terms": "painted",
    }
    return DetectorTrainingConfig(**values)


@pytest.fixture(scope="module")
def run_folder(config: DetectorTrainingConfig) -> Path:
    return train_detector(config)


def column(run_folder: Path, name: str, version: int = 0) -> list[tuple[int, float]]:
    """Return (step, value) of a curve of the run's n-th start."""
    path = run_folder / "metrics" / f"version_{version}" / "metrics.csv"
    with path.open() as file:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(file) if row.get(name)]


def test_run_folder_is_complete(run_folder: Path, config: DetectorTrainingConfig) -> None:
    assert run_folder == config.out
    names = {path.name for path in run_folder.iterdir()}
    assert {"config.toml", "best.ckpt", "last.ckpt", "metrics", "metrics.json", "tiny"} <= names
    assert {"environment.json", "tensorboard", "validation", "figures", "report.html"} <= names
    assert {path.name for path in (run_folder / "tiny").iterdir()} == {"card.toml", "weights.safetensors"}


def test_the_report_shows_the_run_and_can_be_made_again(run_folder: Path, pictures: Path) -> None:
    figures = {path.stem for path in (run_folder / "figures").iterdir()}
    assert {"loss", "learning-rate", "validation", "precision-recall", "f1", "confusion", "predictions"} <= figures
    page = (run_folder / "report.html").read_text()
    for words in ("tiny", "stride32 train detector", "git revision", "anchor_ratios", "green", "lacks"):
        assert (words in page) == (words != "lacks"), words
    before = read_metrics(run_folder)
    measure_run(run_folder, pictures / "val.json")
    assert read_metrics(run_folder) == pytest.approx(before, abs=1e-6)
    assert write_report(run_folder) == run_folder / "report.html"


def test_the_loss_falls(run_folder: Path) -> None:
    # Each value is of one batch, and processors round differently: halves, not ends, are compared.
    for name, share in (("loss", 0.95), ("loss_class", 0.9)):
        losses = [value for _, value in column(run_folder, name)]
        half = len(losses) // 2
        assert half >= 2
        assert all(np.isfinite(losses))
        assert np.mean(losses[half:]) < share * np.mean(losses[:half]), name


def test_validation_is_measured_and_chooses_the_checkpoint(run_folder: Path) -> None:
    assert len(column(run_folder, "val_ap")) == EPOCHS // 5
    assert torch.load(run_folder / "last.ckpt", weights_only=True)["global_step"] == EPOCHS * PICTURES // BATCH


def test_the_exported_model_loads_and_gives_the_metrics_of_its_card(run_folder: Path, pictures: Path) -> None:
    card = read_card(run_folder / "tiny")
    assert (card.name, card.kind, card.labels) == ("tiny", "detector", ("red", "green"))
    assert card.architecture["backbone"] == "tf_efficientnet_lite0"
    assert card.data == ({"name": pictures.name, "terms": "painted"},)
    assert card.preprocess["long_side"] == 64
    assert all(torch.isfinite(tensor).all() for tensor in load_weights(card).values())
    settings = DetectorConfig(model=str(run_folder / "tiny"), conf=0.01, max_det=10)
    detector = build_detector(settings, RuntimeConfig(device="cpu", engine="torch"))
    assert detector.class_names == ("red", "green")
    image = cv2.imread(str(pictures / "0.png"), cv2.IMREAD_COLOR_RGB)
    (found,) = detector.detect([Frame(image)])
    assert 0 < len(found) <= 10
    metrics = read_metrics(run_folder)
    assert {row["name"]: row["value"] for row in card.metrics}["ap50"] == pytest.approx(metrics["ap50"], abs=1e-4)
    command = card.training["command"]
    assert command.startswith("stride32 train detector --train-data TRAIN --val-data VAL --out DIR")
    assert "--set pretrained=false" in command
    assert str(pictures) not in command


def test_a_longer_run_resumes_from_the_last_checkpoint(run_folder: Path, config: DetectorTrainingConfig) -> None:
    train_detector(dataclasses.replace(config, epochs=EPOCHS + 5))
    steps = PICTURES // BATCH
    assert torch.load(run_folder / "last.ckpt", weights_only=True)["global_step"] == (EPOCHS + 5) * steps
    continued = [step for step, _ in column(run_folder, "loss", version=1)]
    assert continued
    assert min(continued) >= EPOCHS * steps
    assert len(column(run_folder, "loss")) >= 4  # the curves of the first start are still there


def test_frozen_stages_and_negatives(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One epoch with the trunk frozen (run by ONNX Runtime), from two pictures of one class and all without it."""
    values: dict[str, Any] = {**TINY, "freeze_stride": 8, "epochs": 1, "eval_every": 3, "ema_decay": 0.0}
    config = DetectorTrainingConfig(
        **values,
        train_data=pictures / "val.json",
        val_data=pictures / "val.json",
        negatives_data=pictures / "train.json",
        classes=("green",),
        out=tmp_path / "run",
    )
    with caplog.at_level(logging.INFO, logger="vision"):
        folder = train_detector(config)
    assert read_card(folder / "tiny").labels == ("green",)
    assert "classes: green" in caplog.text
    # 4 pictures of val.json, and of the others those that show no green.
    document = json.loads((pictures / "train.json").read_text())
    green = {row["image_id"] for row in document["annotations"] if row["category_id"] == 1}
    assert f"training on {4 + len(set(range(4, PICTURES)) - green)} pictures" in caplog.text


# --- the command line ---


def stride32(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if key == "STRIDE32_CACHE" or "STRIDE32" not in key}
    return subprocess.run(
        [sys.executable, "-m", "vision.cli", "train", "detector", *map(str, args)],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_train_from_the_command_line(pictures: Path, tmp_path: Path) -> None:
    settings = {**TINY, "anchor_ratios": [1.0], "scale_range": [0.9, 1.1], "pretrained": "false", "eval_every": 1}
    done = stride32(
        *("--train-data", pictures / "val.json", "--val-data", pictures / "val.json", "--out", "run", "--epochs", 1),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "run"
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "tiny" / "card.toml").is_file()


@pytest.mark.parametrize(
    ("train_data", "settings", "words"),
    [
        ("absent.json", (), ("absent.json", "check the path")),
        ("notes.txt", (), ("notes.txt", "must be COCO JSON")),
        ("train.json", ("--set", "classes=gren"), ("lacks 'gren'", "did you mean 'green'")),
    ],
)
def test_bad_input_is_one_line_and_exit_1(
    train_data: str,
    settings: tuple[str, ...],
    words: tuple[str, ...],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("this is no JSON\n")
    (tmp_path / "train.json").write_text((pictures / "train.json").read_text())
    files = ("--train-data", train_data, "--val-data", "train.json", "--out", "run")
    with pytest.raises(SystemExit) as ended:
        main(["train", "detector", *files, "--set", "pretrained=false", *settings])
    out, err = capsys.readouterr()
    assert ended.value.code == 1, err
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
