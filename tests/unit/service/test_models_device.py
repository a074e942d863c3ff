"""Detectors on a GPU as they are served: their batch size is measured, and their batches may overlap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.batching import Batcher
from service.models import ServedDetector, warm_up
from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.config import DetectorConfig
from vision.detection.device_detector import DeviceDetector
from vision.types import Frame


def served_with(detector: object) -> ServedDetector:
    served = ServedDetector.__new__(ServedDetector)
    served.detector = detector  # type: ignore[assignment]
    served.max_batch = 1
    return served


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return the sizes of the pictures that are run."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(ServedDetector, "prepare", lambda self, frame: frame)
    monkeypatch.setattr(ServedDetector, "run", lambda self, inputs: seen.extend(item.size_hw for item in inputs))
    return seen


def test_on_a_gpu_it_is_measured(monkeypatch: pytest.MonkeyPatch, shapes: list[tuple[int, int]]) -> None:
    detector = DeviceDetector.__new__(DeviceDetector)
    monkeypatch.setattr(DeviceDetector, "start_up", lambda self: 16)
    served = served_with(detector)
    warm_up(served)
    assert served.max_batch == 16
    assert len(shapes) == 2


def test_elsewhere_it_is_not(shapes: list[tuple[int, int]]) -> None:
    served = served_with(SimpleNamespace(detect=lambda frames: [np.zeros(0)]))
    warm_up(served)
    assert served.max_batch == 1
    assert len(shapes) == 2


class Network(nn.Module):
    """Fires one anchor a picture; the score tells its brightness."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        count = len(make_anchors(AnchorConfig(), (64, 64)).boxes)
        logits = torch.full((len(images), count, 1), -9.0)
        logits[:, 70, 0] = images.mean(dim=(1, 2, 3))
        return logits, torch.zeros((len(images), count, 4))


def test_overlapping_batches_give_what_the_detector_gives() -> None:
    detector = DeviceDetector(
        Network(),
        torch.device("cpu"),
        anchors=AnchorConfig(),
        multiple=64,
        class_names=("person",),
        normalization=TENSORFLOW_NORMALIZATION,
        long_side=64,
        config=DetectorConfig(conf=0.1),
    )
    frames = [Frame(np.full((64, 48, 3), 100 + number, np.uint8)) for number in range(60)]
    answers: dict[int, Any] = {}
    batcher = Batcher(detector.detect_prepared, max_batch=4, launcher=served_with(detector).launcher)
    for number, frame in enumerate(frames):
        batcher.submit(detector.prepare(frame), lambda served, error, number=number: answers.update({number: served}))
    batcher.close()
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(answers[number].value.scores, detector.detect([frame])[0].scores, atol=1e-6)
    assert len({answers[number].value.scores[0] for number in range(60)}) == 60
    assert max(answers[number].batch for number in range(60)) <= 4
