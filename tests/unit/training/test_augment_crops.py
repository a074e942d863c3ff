"""Augmentation of crops: sizes, limits, what a setting of 0 leaves alone, and repeatable draws."""

import numpy as np
import pytest

from vision.errors import ConfigError
from vision.training.augment_crops import (
    augment_crop,
    erase_rectangle,
    jitter_box,
    jitter_colour,
    lower_resolution,
    shift_crop,
)
from vision.training.embedder_config import CropAugmentation

FILL = np.array([127, 127, 127], np.uint8)
OFF = CropAugmentation(shift=0, colour=0, erase=0)
STRONG = CropAugmentation(shift=0.1, box_jitter=0.2, colour=2, grey=0.5, low_resolution=0.5, erase=0.8)


def noise(height=32, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("augmentation", [CropAugmentation(), STRONG, OFF])
def test_augmentation_leaves_the_source_alone_and_keeps_the_size(augmentation):
    image = noise()
    before = image.copy()
    for seed in range(20):
        augmented = augment_crop(np.random.default_rng(seed), image, FILL, augmentation)
        assert augmented.shape == image.shape
        assert augmented.dtype == np.uint8
    assert (image == before).all()


def test_a_seed_gives_the_same_picture():
    first, second = (augment_crop(np.random.default_rng(4), noise(), FILL, STRONG) for _ in range(2))
    assert (first == second).all()


def test_everything_off_mirrors_at_most():
    image = noise()
    for seed in range(10):
        augmented = augment_crop(np.random.default_rng(seed), image, FILL, OFF)
        assert (augmented == image).all() or (augmented == image[:, ::-1]).all()


def test_new_changes_that_are_off_draw_nothing():
    """What the defaults draw is what runs before these settings drew, so their commands still give their weights."""
    rng = np.random.default_rng(3)
    image = noise()
    expected = image[:, ::-1] if rng.uniform() < 0.5 else image
    expected = jitter_colour(rng, shift_crop(rng, expected, FILL))
    expected = erase_rectangle(rng, expected, FILL) if rng.uniform() < 0.5 else expected
    assert (augment_crop(np.random.default_rng(3), image, FILL) == expected).all()


def test_shift_moves_by_at_most_its_reach():
    image = np.full((40, 20, 3), 200, np.uint8)
    for seed in range(20):
        kept = (shift_crop(np.random.default_rng(seed), image, FILL) == 200).all(axis=2)
        assert kept.any(axis=1).sum() >= 38
        assert kept.any(axis=0).sum() >= 19


def test_a_jittered_box_shows_fill_at_most_where_it_grew():
    image = np.full((100, 50, 3), 200, np.uint8)
    for seed in range(20):
        moved = jitter_box(np.random.default_rng(seed), image, FILL, reach=0.1)
        assert moved.shape == image.shape
        inside = (moved == 200).all(axis=2)
        # At least 100 of the at most 120 % of each side is picture.
        assert inside.any(axis=1).mean() >= 0.82
        assert inside.any(axis=0).mean() >= 0.8


def test_a_box_that_does_not_move_keeps_the_crop():
    image = noise(64, 32)
    assert (jitter_box(np.random.default_rng(0), image, FILL, reach=0.0) == image).all()


def test_lower_resolution_takes_the_detail_and_keeps_the_mean():
    image = noise(64, 32)
    blurred = lower_resolution(np.random.default_rng(0), image)
    assert blurred.shape == image.shape
    assert blurred.std() < 0.8 * image.std()
    assert blurred.mean() == pytest.approx(image.mean(), abs=3)


def test_lower_resolution_of_a_tiny_crop():
    assert lower_resolution(np.random.default_rng(0), noise(2, 1)).shape == (2, 1, 3)


def test_grey_crops_have_equal_channels():
    grey = augment_crop(np.random.default_rng(0), noise(), FILL, CropAugmentation(shift=0, colour=0, erase=0, grey=1))
    assert (grey == grey[:, :, :1]).all()


def test_stronger_colour_changes_more():
    image = noise()
    by = {
        strength: np.mean(
            [np.abs(jitter_colour(np.random.default_rng(s), image, strength=strength) - image.astype(float)).mean()
             for s in range(20)]
        )
        for strength in (0.5, 2.0)
    }  # fmt: skip
    assert by[2.0] > 2 * by[0.5]


def test_erasing_fills_one_rectangle_of_the_asked_size():
    image = np.full((128, 64, 3), 200, np.uint8)
    shares = np.array(
        [(erase_rectangle(np.random.default_rng(seed), image, FILL) != 200).all(axis=2).mean() for seed in range(100)]
    )
    assert shares.min() > 0.015
    assert shares.max() < 0.35
    larger = erase_rectangle(np.random.default_rng(0), image, FILL, area=(0.4, 0.5))
    assert (larger != 200).all(axis=2).mean() > 0.3


def test_erasing_happens_as_often_as_asked():
    image = np.full((32, 16, 3), 200, np.uint8)
    often = CropAugmentation(shift=0, colour=0, erase=0.25)
    hit = [(augment_crop(np.random.default_rng(s), image, FILL, often) != 200).any() for s in range(400)]
    assert 0.18 < np.mean(hit) < 0.32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"erase": 1.5}, "erase must be a probability"),
        ({"grey": -0.1}, "grey must be a probability"),
        ({"low_resolution": 2}, "low_resolution must be"),
        ({"shift": 0.5}, r"in \[0, 0.5\) of a side"),
        ({"box_jitter": -0.1}, r"in \[0, 0.5\) of a side"),
        ({"colour": 9}, r"colour must be in \[0, 5\]"),
        ({"erase_area": (0.3, 0.2)}, "two shares"),
        ({"erase_area": (0.0, 0.2)}, "two shares"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        CropAugmentation(**change)
