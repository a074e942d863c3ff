"""The one preprocessing: values by hand, padding, and the letterbox as its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from vision.backbones.interface import IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION
from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import Normalization, normalize, preprocess, resize

SIZES = [(64, 64), (97, 301), (320, 180), (240, 320), (1, 1), (3, 500)]


def noise(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def test_a_pixel_by_hand() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[1, 0] = (255, 0, 127)
    found = preprocess(image, Letterbox.stretch((2, 2), (2, 2)), Normalization((127, 100, 0), (128, 50, 254)))
    assert found.shape == (3, 2, 2)
    assert found.dtype == np.float32
    assert found[:, 1, 0] == pytest.approx([1.0, -2.0, 0.5])
    assert found[:, 0, 0] == pytest.approx([-127 / 128, -2.0, 0.0])


@pytest.mark.parametrize("normalization", [IMAGENET_NORMALIZATION, TENSORFLOW_NORMALIZATION])
def test_normalize_is_the_formula(normalization: Normalization) -> None:
    image = noise((5, 7))
    expected = (image.astype(np.float64) - normalization.mean) / normalization.std
    np.testing.assert_allclose(normalize(image, normalization), expected.transpose(2, 0, 1), atol=2e-6)


@pytest.mark.parametrize("size_hw", SIZES)
def test_preprocess_is_normalize_of_resize_with_zero_padding(size_hw: tuple[int, int]) -> None:
    image, letterbox = noise(size_hw), Letterbox.fit(size_hw, long_side=128, multiple=64)
    found = preprocess(image, letterbox, IMAGENET_NORMALIZATION)
    assert found.shape == (3, *letterbox.padded_hw)
    height, width = letterbox.scaled_hw
    expected = normalize(resize(image, letterbox.scaled_hw), IMAGENET_NORMALIZATION)
    np.testing.assert_array_equal(found[:, :height, :width], expected)
    # The padding has the colour that the network sees as its mean.
    assert not found[:, height:].any()
    assert not found[:, :, width:].any()


def test_the_source_is_not_written_to() -> None:
    image = noise((64, 64))
    image.flags.writeable = False
    preprocess(image, Letterbox.fit((64, 64), long_side=64, multiple=64), IMAGENET_NORMALIZATION)


def test_a_picture_of_the_right_size_is_not_copied() -> None:
    image = noise((8, 8))
    assert resize(image, (8, 8)) is image


@pytest.mark.parametrize(("size_hw", "target_hw"), [((40, 60), (20, 30)), ((20, 30), (40, 60)), ((40, 40), (20, 60))])
def test_resize_keeps_a_flat_picture_flat(size_hw: tuple[int, int], target_hw: tuple[int, int]) -> None:
    resized = resize(np.full((*size_hw, 3), (10, 200, 77), np.uint8), target_hw)
    assert resized.shape == (*target_hw, 3)
    assert (resized == (10, 200, 77)).all()


def test_shrinking_averages_areas() -> None:
    """A checkerboard halves to grey; point sampling would give black or white."""
    board = np.repeat(np.indices((16, 16)).sum(axis=0)[..., None] % 2 * 255, 3, axis=2).astype(np.uint8)
    assert np.abs(resize(board, (8, 8)).astype(int) - 127).max() <= 1


@pytest.mark.parametrize("size_hw", [(64, 64), (97, 301), (320, 180), (240, 320)])
@pytest.mark.parametrize("long_side", [96, 448])
def test_the_letterbox_takes_what_is_seen_back_to_where_it_was(size_hw: tuple[int, int], long_side: int) -> None:
    """Paint a rectangle, find it in the network input, map it back: the same corners, whatever the scale."""
    height, width = size_hw
    painted = np.array([width // 4, height // 4, 3 * width // 4, 3 * height // 4], np.float32)
    image = np.zeros((*size_hw, 3), np.uint8)
    x1, y1, x2, y2 = painted.astype(int)
    image[y1:y2, x1:x2] = 255
    letterbox = Letterbox.fit(size_hw, long_side=long_side, multiple=32)
    seen = preprocess(image, letterbox, Normalization((0, 0, 0), (255, 255, 255)))[0] >= 0.5
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    pixel = max(1.0, 1 / min(letterbox.scale_xy))
    np.testing.assert_allclose(letterbox.to_source(found)[0], painted, atol=pixel)
    np.testing.assert_allclose(letterbox.to_source(letterbox.to_network(painted[None])), painted[None], rtol=1e-6)
