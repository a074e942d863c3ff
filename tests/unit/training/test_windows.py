"""Training patches of the sliding-window detector: where they lie, what they show, mined false positives, settings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection.window_losses import assign_windows
from vision.detection.window_network import WindowGeometry
from vision.errors import ConfigError
from vision.training.datasets.pictures import AnnotatedImage
from vision.training.datasets.windows import PictureCache, WindowPatches, collate
from vision.training.window_config import WindowTrainingConfig

GEOMETRY = WindowGeometry((27, 23), 4, ((12.0, 12.0), (17.0, 8.5)))
BASE = WindowTrainingConfig(
    train_data=Path("train.json"), size=12.0, aspects=(1.0, 2.0), long_side=120, patch_windows=5, object_share=1.0
)
PICTURE_HW = (60, 80)
BOX = (30.0, 20.0, 50.0, 40.0)


@pytest.fixture
def images(tmp_path: Path) -> list[AnnotatedImage]:
    """One grey picture with a red square, and one without."""
    pictures = []
    for number, boxes in enumerate(([BOX], [])):
        image = np.full((*PICTURE_HW, 3), 127, np.uint8)
        for x1, y1, x2, y2 in boxes:
            image[int(y1) : int(y2), int(x1) : int(x2)] = (0, 0, 255)  # BGR
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), image)
        pictures.append(
            AnnotatedImage(path, number, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64))
        )
    return pictures


def make_patches(images: list[AnnotatedImage], **changes: Any) -> WindowPatches:
    return WindowPatches(images, dataclasses.replace(BASE, **changes), GEOMETRY, TENSORFLOW_NORMALIZATION)


def test_a_patch_holds_its_grid_of_windows_and_its_objects(images: list[AnnotatedImage]) -> None:
    patches = make_patches(images)
    assert len(patches) == 2
    assert patches.patch_hw == (27 + 16, 23 + 16)
    for epoch in range(20):
        patch, target = patches[2 * epoch]
        assert patch.shape == (3, 43, 39)
        assert (target.boxes.shape, target.labels.tolist(), target.ignored.shape) == ((1, 4), [0], (0, 4))
        x1, y1, x2, y2 = target.boxes[0].round().int().clamp(min=0).tolist()
        inner = patch[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2]
        if inner.numel():
            assert inner[0].mean() > inner[2].mean() + 0.5  # red where the box is
        # About the size of a nominal box, and near enough to the middle to be learned.
        side = float((target.boxes[0, 2:] - target.boxes[0, :2]).prod().sqrt())
        assert 12 / 1.4 <= side <= 12 * 1.4


def test_most_patches_of_an_object_teach_it(images: list[AnnotatedImage]) -> None:
    patches = make_patches(images)
    nominal = GEOMETRY.nominal_boxes((5, 5))
    learned = [bool((assign_windows(nominal, patches[2 * epoch][1]) >= 0).any()) for epoch in range(40)]
    assert sum(learned) > 30


def test_a_patch_depends_on_its_item_alone(images: list[AnnotatedImage]) -> None:
    first, second = make_patches(images), make_patches(images)
    for item in (0, 1, 7):
        assert torch.equal(first[item][0], second[item][0])
        assert torch.equal(first[item][1].boxes, second[item][1].boxes)
    assert not torch.equal(first[0][1].boxes, first[2][1].boxes)


def test_an_object_is_never_larger_than_inference_shows_it(images: list[AnnotatedImage]) -> None:
    tiny = dataclasses.replace(images[0], boxes=np.array([[40, 30, 42, 32]], np.float32))
    patches = make_patches([tiny])
    sides = [float((patches[epoch][1].boxes[0, 2:] - patches[epoch][1].boxes[0, :2]).max()) for epoch in range(20)]
    assert max(sides) <= 2 * 120 / 80 * 2**0.4 + 1e-4


def test_background_patches_return_to_mined_false_positives(images: list[AnnotatedImage]) -> None:
    patches = make_patches(images, mined_share=1.0)
    place = np.array([10, 10, 22, 22], np.float32)
    patches.set_mined(np.array([1, 0]), np.stack([place, place + 20]))
    white = np.full((*PICTURE_HW, 3), 127, np.uint8)
    white[10:22, 10:22] = 255
    cv2.imwrite(str(images[1].path), white)
    # The mistake is in each patch, about as large as a nominal box.
    found = [int((patches[2 * epoch + 1][0] > 0.4).all(dim=0).sum()) for epoch in range(20)]
    assert sum(count > 30 for count in found) >= 15


def test_patches_of_background_may_lie_anywhere(images: list[AnnotatedImage]) -> None:
    patches = make_patches(images, object_share=0.0, long_side=600)
    seen = [patches[2 * epoch][1].boxes[0] for epoch in range(30)]
    assert sum(bool((box[2:] < 0).any() or (box[:2] > 40).any()) for box in seen) > 3  # the object is elsewhere


def test_crowds_travel_with_the_patch(images: list[AnnotatedImage]) -> None:
    crowd = dataclasses.replace(images[0], crowd_boxes=images[0].boxes)
    target = make_patches([crowd])[0][1]
    torch.testing.assert_close(target.ignored, target.boxes)


def test_only_the_newest_false_positives_are_kept(
    images: list[AnnotatedImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vision.training.datasets.windows.MOST_MINED", 2)
    patches = make_patches(images)
    patches.set_mined(np.arange(3), np.arange(12, dtype=np.float32).reshape(3, 4))
    assert patches.mined_pictures.tolist() == [1, 2]
    assert patches.mined_boxes[0].tolist() == [4, 5, 6, 7]


def test_the_cache_keeps_to_its_limit(images: list[AnnotatedImage]) -> None:
    cache = PictureCache(1)
    cache.free = 60 * 80 * 3
    first = cache.load(images[0].path)
    assert cache.load(images[0].path) is first
    assert cache.load(images[1].path) is not cache.load(images[1].path)


def test_batches_hold_patches_and_a_list_of_targets(images: list[AnnotatedImage]) -> None:
    patches = make_patches(images)
    batch, targets = collate([patches[0], patches[1]])
    assert batch.shape == (2, 3, 43, 39)
    assert [len(target.boxes) for target in targets] == [1, 0]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"patch_windows": 0}, "patch_windows and scales_per_octave must be >= 1"),
        ({"object_share": 1.2}, r"object_share and mined_share must be in \[0, 1\], got 1.2"),
        ({"mine_conf": 0.0}, "mine_conf in "),
        ({"mine_every": -1}, "0 switches each off"),
        ({"val_fraction": 1.0}, r"val_fraction must be in \(0, 1\)"),
        ({"epochs": 0}, "epochs"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dataclasses.replace(BASE, **values)
