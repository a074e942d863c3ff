"""Shared models as stages of streams, when another model is loaded under the name in between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_models import DETECTOR, FakeLoader, fake_settings

from service.clients import ModelReplacedError, SharedDetector
from service.errors import ConflictError
from service.metrics import Metrics
from service.registry import ModelRegistry
from service.work import Priority
from vision.detection.config import DetectorConfig
from vision.types import Frame


def test_a_job_has_one_model_from_first_to_last_frame_and_a_stream_one_of_the_same_classes(tmp_path: Path) -> None:
    registry = ModelRegistry(fake_settings(tmp_path), Metrics(), FakeLoader())
    registry.start()
    entry = registry.find(DETECTOR)
    frame = Frame(np.full((8, 8, 3), 100, np.uint8))
    stages = {
        priority: SharedDetector(entry, DetectorConfig(), priority=priority, timeout_s=20)
        for priority in (Priority.BULK, Priority.INTERACTIVE)
    }
    for stage in stages.values():
        assert len(stage.detect([frame])) == 1
    registry.load(DETECTOR)
    # The same classes, for a moment: what follows is about other weights.
    assert entry.loaded is not None
    for stage in stages.values():
        stage.class_names = entry.loaded.served.class_names
    assert len(stages[Priority.INTERACTIVE].detect([frame])) == 1
    with pytest.raises(ModelReplacedError, match="run the job again"):
        stages[Priority.BULK].detect([frame])
    stages[Priority.INTERACTIVE].class_names = ("another",)
    with pytest.raises(ConflictError, match="other classes"):
        stages[Priority.INTERACTIVE].detect([frame])
    registry.close()
