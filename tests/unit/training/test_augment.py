"""Augmentation: boxes follow pixels, what remains visible, repeatability."""

from __future__ import annotations

import numpy as np
import pytest

from vision.training.augment import (
    MIN_SIDE,
    MIN_VISIBLE,
    AffineParameters,
    affine_matrix,
    draw_affine,
    jitter_colour,
    warp_boxes,
    warp_image,
)

FILL = (127, 127, 127)
RED = (255, 0, 0)
LABEL = np.array([4], np.int64)


def painted(size_hw: tuple[int, int], box: list[int]) -> np.ndarray:
    image = np.full((*size_hw, 3), 127, np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = RED
    return image


def red_box(image: np.ndarray) -> np.ndarray:
    """Return the box of the pixels that are more red than not."""
    red = image[:, :, 1] < 64
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("zoom", [0.3, 0.5, 0.75, 1.0, 1.7, 2.5])
@pytest.mark.parametrize("shift_xy", [(0.0, 0.0), (13.3, 20.6), (-11.5, 4.0)])
def test_boxes_follow_pixels(flip: bool, zoom: float, shift_xy: tuple[float, float]) -> None:
    box = [30, 20, 70, 90]
    matrix = affine_matrix(AffineParameters(zoom, shift_xy, flip), 120)
    image = warp_image(painted((100, 120), box), matrix, (256, 256), fill=FILL)
    boxes, labels = warp_boxes(np.array([box], np.float32), LABEL, matrix, (256, 256))
    assert image.shape == (256, 256, 3)
    assert labels.tolist() == [4]
    np.testing.assert_allclose(red_box(image), boxes[0], atol=1.0)


@pytest.mark.parametrize("seed", range(20))
def test_drawn_transforms_move_boxes_with_pixels(seed: int) -> None:
    box = [60, 40, 140, 120]
    drawn = draw_affine(
        np.random.default_rng(seed), (160, 200), output_hw=(192, 192), long_side=192, scale_range=(0.6, 2.0)
    )
    matrix = affine_matrix(drawn, 200)
    boxes, _ = warp_boxes(np.array([box], np.float32), LABEL, matrix, (192, 192))
    image = warp_image(painted((160, 200), box), matrix, (192, 192), fill=FILL)
    if len(boxes):
        np.testing.assert_allclose(red_box(image), boxes[0], atol=1.0)
    else:
        assert (image[:, :, 1] < 64).mean() < 0.3


def test_identity_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    matrix = affine_matrix(AffineParameters(1.0, (0.0, 0.0), False), 64)
    np.testing.assert_array_equal(warp_image(image, matrix, (64, 64), fill=FILL), image)
    mirror = affine_matrix(AffineParameters(1.0, (0.0, 0.0), True), 64)
    np.testing.assert_array_equal(warp_image(image, mirror, (64, 64), fill=FILL), image[:, ::-1])


def test_outside_the_picture_is_the_fill_colour() -> None:
    matrix = affine_matrix(AffineParameters(0.5, (0.0, 0.0), False), 64)
    warped = warp_image(np.zeros((64, 64, 3), np.uint8), matrix, (64, 64), fill=(1, 2, 3))
    assert warped[40:, 40:].reshape(-1, 3).tolist() == [[1, 2, 3]] * 24 * 24
    assert not warped[:31, :31].any()


@pytest.mark.parametrize("seed", range(10))
def test_zoom_is_relative_to_the_picture_filling_the_square(seed: int) -> None:
    drawn = draw_affine(
        np.random.default_rng(seed), (50, 100), output_hw=(200, 200), long_side=200, scale_range=(0.5, 2.0)
    )
    assert 1.0 <= drawn.zoom <= 4.0
    for side, shift in zip((100, 50), drawn.shift_xy, strict=True):
        slack = 200 - side * drawn.zoom
        # Smaller: the picture lies inside the square. Larger: the square lies inside the picture.
        assert min(0.0, slack) <= shift <= max(0.0, slack)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ([10, 10, 30, 30], [10, 10, 30, 30]),
        ([-10, 10, 10, 30], [0, 10, 10, 30]),  # half visible
        ([-15, 10, 5, 30], None),  # a quarter visible
        ([-13.5, 10, 6.5, 30], [0, 10, 6.5, 30]),  # 0.325 visible
        ([90, 90, 120, 120], None),  # one ninth visible
        ([200, 10, 220, 30], None),
        ([10, 10, 30, 10 + MIN_SIDE], [10, 10, 30, 10 + MIN_SIDE]),
        ([10, 10, 30, 9.5 + MIN_SIDE], None),
        ([-500, -500, 600, 600], None),  # fills the square, yet little of it is seen
    ],
)
def test_visibility(box: list[float], kept: list[float] | None) -> None:
    assert pytest.approx(0.3) == MIN_VISIBLE
    matrix = affine_matrix(AffineParameters(1.0, (0.0, 0.0), False), 100)
    boxes, labels = warp_boxes(np.array([box], np.float32), LABEL, matrix, (100, 100))
    assert boxes.tolist() == ([] if kept is None else [kept])
    assert len(labels) == len(boxes)
    assert boxes.dtype == np.float32


def test_no_boxes() -> None:
    matrix = affine_matrix(AffineParameters(2.0, (1.0, 1.0), True), 100)
    boxes, labels = warp_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), matrix, (100, 100))
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_the_seed_decides_everything() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def draw(seed: int) -> tuple[AffineParameters, bytes]:
        rng = np.random.default_rng(seed)
        parameters = draw_affine(rng, (32, 32), output_hw=(64, 64), long_side=64, scale_range=(0.6, 2.0))
        return parameters, jitter_colour(rng, image).tobytes()

    assert draw(5) == draw(5)
    assert draw(5)[0] != draw(6)[0]
    assert draw(5)[1] != draw(6)[1]


def test_colour_keeps_greys_grey_and_leaves_the_source_alone() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    before = image.copy()
    for seed in range(5):
        jittered = jitter_colour(np.random.default_rng(seed), image)
        assert (jittered == jittered[:, :, :1]).all()
        assert (np.diff(jittered[:, :, 0].reshape(-1).astype(int)) >= 0).all()
    np.testing.assert_array_equal(image, before)
