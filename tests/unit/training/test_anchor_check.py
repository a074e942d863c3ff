"""The sizes of objects at the scale of training, and what is said of the anchors."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from vision.detection.anchors import AnchorConfig
from vision.training.anchor_check import MAX_SIZES, ZOOMS, log_anchor_fit, training_sizes
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.pictures import AnnotatedImage

CONFIG = DetectorTrainingConfig(train_data=Path("train.json"), image_size=64, scale_range=(0.5, 2.0))


def picture(path: Path, *boxes: tuple[float, float, float, float]) -> AnnotatedImage:
    return AnnotatedImage(path, 1, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.png"
    cv2.imwrite(str(path), np.zeros((64, 128, 3), np.uint8))
    return path


def test_sizes_at_the_scale_of_training(wide: Path) -> None:
    """128 pixels fill 64 at zoom 1, which is the middle one of the range."""
    sizes = training_sizes(CONFIG, [picture(wide, (0, 0, 40, 20))])
    assert len(sizes) == ZOOMS
    np.testing.assert_allclose(sizes[ZOOMS // 2], (20, 10), rtol=1e-5)
    np.testing.assert_allclose(sizes[-1] / sizes[0], 2 ** (2 * (1 - 1 / ZOOMS)), rtol=1e-5)


def test_sizes_are_bounded(wide: Path, tmp_path: Path) -> None:
    image = picture(wide, (0, 0, 128, 64), (0, 0, 1, 1))
    sizes = training_sizes(CONFIG, [image, picture(tmp_path / "absent.png", (0, 0, 5, 5)), picture(wide)])
    assert sizes.max() == 64
    assert len(sizes) == ZOOMS  # the speck is below two pixels at every zoom
    assert len(training_sizes(CONFIG, [picture(wide, *[(0, 0, 40, 20)] * 3000)])) <= MAX_SIZES
    assert training_sizes(CONFIG, []).shape == (0, 2)


def test_bad_anchors_come_with_settings_that_fit(wide: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [picture(wide, *((0, 0, side, side / 4) for side in (30, 40, 60, 90)))]
    with caplog.at_level(logging.INFO, logger="vision"):
        log_anchor_fit(CONFIG, AnchorConfig(), images)
    first, second = caplog.messages
    assert first.startswith("anchors: 1 a cell on 4 levels; best possible recall at IoU 0.5 is 0.")
    assert "k-means with 4 free shapes" in first
    assert "--set 'anchor_ratios=[0.25]' --set anchor_scale=" in second


def test_without_objects_nothing_is_said(wide: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vision"):
        log_anchor_fit(CONFIG, AnchorConfig(), [picture(wide)])
    assert caplog.messages == []
