"""The batch size of a detector on a GPU is measured when it is loaded; that of others is left to the settings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from service.models import ServedDetector, warm_up
from vision.detection.device_detector import DeviceDetector


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
