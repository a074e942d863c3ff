"""Each family of anchor detectors trains, is exported with its card, and gives the same boxes in both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vision.build import build_detector
from vision.card import read_card
from vision.detection.architecture import architecture_from
from vision.detection.config import DetectorConfig
from vision.runtime.config import RuntimeConfig
from vision.training.config import DetectorTrainingConfig
from vision.training.fit import train_detector
from vision.types import Frame

pytestmark = pytest.mark.slow

PICTURES = 8
TINY: dict[str, Any] = {
    "name": "tiny",
    "backbone": "mobilenet_v3_small",
    "pretrained": False,
    "freeze_stride": 0,
    "channels": 16,
    "image_size": 64,
    "long_side": 64,
    "anchor_scale": 1.5,
    "scale_range": (0.9, 1.1),
    "batch_size": 4,
    "warmup_steps": 5,
    "ema_decay": 0.0,
    "lr": 3e-3,
    "backbone_lr_factor": 1.0,
    "threads": 1,
    "device": "cpu",
    "epochs": 1,
    "eval_every": 1,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One red square on grey noise in each picture; COCO JSON."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(PICTURES):
        image = rng.integers(60, 120, (64, 64, 3), dtype=np.uint8)
        (x, y), side = rng.integers(0, 30, 2).tolist(), int(rng.integers(16, 32))
        image[y : y + side, x : x + side] = (0, 0, 255)
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [x, y, side, side]})
        cv2.imwrite(str(folder / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "squares.json").write_text(json.dumps(document))
    return folder / "squares.json"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    threads = torch.get_num_threads()
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("family", "loss", "assigner"),
    [("retinanet", "focal", "iou"), ("ssd", "multibox", "iou"), ("ssdlite", "qfl", "atss")],
)
def test_a_family_trains_and_serves(family: str, loss: str, assigner: str, squares: Path, tmp_path: Path) -> None:
    values = {**TINY, "family": family, "loss": loss, "assigner": assigner, "out": tmp_path / "run"}
    config = DetectorTrainingConfig(train_data=squares, val_data=squares, **values)
    folder = train_detector(config) / "tiny"

    architecture = architecture_from(read_card(folder).architecture)
    assert (architecture.family, architecture.channels) == (family, 16)
    settings = DetectorConfig(model=str(folder), conf=0.001, max_det=5)
    engines = [build_detector(settings, RuntimeConfig(device="cpu", engine=name)) for name in ("torch", "onnx")]
    for size_hw in ((64, 64), (48, 100)):  # the exported graph takes any size
        frame = Frame(np.random.default_rng(0).integers(0, 256, (*size_hw, 3), np.uint8))
        by_torch, by_onnx = (engine.detect([frame])[0] for engine in engines)
        assert len(by_torch) == len(by_onnx) > 0
        np.testing.assert_allclose(by_onnx.boxes, by_torch.boxes, atol=0.05)
        np.testing.assert_allclose(by_onnx.scores, by_torch.scores, atol=1e-4)
