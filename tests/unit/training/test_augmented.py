"""The augmented training set: mosaics keep boxes on their objects, and the last epochs are lighter."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vision.errors import ConfigError
from vision.runtime.preprocess import Normalization
from vision.training.augment import mosaic_quadrants
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.augmented import DetectionDataset
from vision.training.datasets.pictures import AnnotatedImage

SIDE = 128
PLAIN = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    """Six dark pictures, each with one white box."""
    folder = tmp_path_factory.mktemp("boxes")
    images = []
    for number in range(6):
        picture = np.full((100, 140, 3), 40, np.uint8)
        x, y = 10 + 12 * number, 8 + 9 * number
        picture[y : y + 40, x : x + 50] = 255
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), picture)
        box = np.array([[x, y, x + 50, y + 40]], np.float32)
        images.append(AnnotatedImage(path, number, box, np.array([number % 2], np.int64)))
    return images


def dataset(pictures: list[AnnotatedImage], **changes: Any) -> DetectionDataset:
    values = {"image_size": SIDE, "scale_range": (0.8, 1.5), "epochs": 4, "mosaic": 1.0, **changes}
    return DetectionDataset(pictures, DetectorTrainingConfig(train_data=Path("a"), val_data=Path("b"), **values), PLAIN)


def test_boxes_of_a_mosaic_hold_the_white_areas(pictures: list[AnnotatedImage]) -> None:
    counts = []
    for item in range(18):
        image, target = dataset(pictures)[item]
        # The colour jitter takes brightness down to 60 % and leaves the dark ground below 60.
        white = image.numpy().max(axis=0) > 120
        for x1, y1, x2, y2 in target.boxes.round().int().tolist():
            assert white[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].all()
            white[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = False
        # What is left are slivers of objects cut to less than the visible share.
        assert white.sum() < 0.06 * SIDE * SIDE
        counts.append(len(target.boxes))
    assert max(counts) > 1


def test_the_last_epochs_have_no_mosaic(pictures: list[AnnotatedImage]) -> None:
    light = dataset(pictures, light_epochs=1)
    items = len(pictures)
    assert max(len(light[item][1].boxes) for item in range(3 * items)) > 1
    assert max(len(light[item][1].boxes) for item in range(3 * items, 4 * items)) == 1


def test_a_mosaic_is_decided_by_seed_epoch_and_index(pictures: list[AnnotatedImage]) -> None:
    first, again = dataset(pictures)[7], dataset(pictures)[7]
    assert (first[0] == again[0]).all()
    assert not (first[0] == dataset(pictures, seed=1)[7][0]).all()


def test_quadrants_tile_the_square() -> None:
    cover = np.zeros((SIDE, SIDE), int)
    for top, left, bottom, right in mosaic_quadrants(np.random.default_rng(3), SIDE):
        cover[top:bottom, left:right] += 1
    assert (cover == 1).all()


@pytest.mark.parametrize("changes", [{"mosaic": 1.5}, {"mosaic": -0.1}, {"light_epochs": -1}])
def test_wrong_shares_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="mosaic must be"):
        DetectorTrainingConfig(train_data=Path("a"), val_data=Path("b"), **changes)
