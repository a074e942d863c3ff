"""Classes of every pixel on the device against those of ``readout``, where the maths is exact and where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vision.geometry.letterbox import Letterbox
from vision.segmentation import readout
from vision.segmentation.device_readout import labels_at_source
from vision.types import FloatArray


def smooth(classes: int, size_hw: tuple[int, int], seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(0, 3, (classes, *size_hw)).astype(np.float32)


def whole(classes: int, size_hw: tuple[int, int], seed: int = 0) -> FloatArray:
    """Return logits of a few whole numbers, so that many are equal and interpolation by powers of two is exact."""
    return np.random.default_rng(seed).integers(-1, 2, (classes, *size_hw)).astype(np.float32)


def both(logits: FloatArray, letterbox: Letterbox, **options: int) -> tuple[np.ndarray, np.ndarray]:
    found = labels_at_source(torch.from_numpy(logits), letterbox, **options)
    assert found.dtype == torch.uint8
    return found.numpy(), readout.labels_at_source(logits, letterbox)


@pytest.mark.parametrize("stride", [1, 2, 8, 32])
def test_the_first_of_equals_wins_as_in_the_reference(stride: int) -> None:
    size_hw = (64, 96)
    logits = whole(5, (size_hw[0] // stride, size_hw[1] // stride))
    found, wanted = both(logits, Letterbox((60, 90), (60, 90), size_hw))
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found)) > 1


def test_all_equal_is_the_first_class() -> None:
    found, _ = both(np.zeros((3, 2, 2), np.float32), Letterbox((50, 60), (50, 60), (64, 64)))
    assert not found.any()


@pytest.mark.parametrize("most_values", [1, 64 * 96, 3 * 64 * 96, 2**26])
def test_blocks_of_classes_change_nothing(most_values: int) -> None:
    found, wanted = both(whole(7, (8, 12)), Letterbox((60, 90), (60, 90), (64, 96)), most_values=most_values)
    np.testing.assert_array_equal(found, wanted)


def test_as_many_classes_as_a_byte_holds() -> None:
    logits = np.zeros((256, 4, 4), np.float32)
    logits[255, :2], logits[128, 2:] = 1, 1
    found, wanted = both(logits, Letterbox((4, 4), (4, 4), (4, 4)), most_values=16 * 100)
    np.testing.assert_array_equal(found, wanted)
    assert set(np.unique(found)) == {128, 255}


@pytest.mark.parametrize(
    "source_hw", [(240, 320), (1080, 1920), (100, 37), (97, 301), (1, 900), (900, 1), (2, 3), (1, 1), (256, 512)]
)
@pytest.mark.parametrize("classes", [2, 11])
def test_pictures_of_any_form(source_hw: tuple[int, int], classes: int) -> None:
    letterbox = Letterbox.fit(source_hw, long_side=256, multiple=64)
    height, width = letterbox.padded_hw
    found, wanted = both(smooth(classes, (height // 8, width // 8)), letterbox)
    assert found.shape == source_hw
    # Where two logits meet, the last digit of a weight decides: about a pixel in ten thousand.
    assert (found != wanted).sum() <= max(1, 2e-4 * found.size)


def test_what_a_network_leaves_pixel_by_pixel_in_half_precision() -> None:
    logits = torch.from_numpy(whole(6, (8, 8)))[None]
    letterbox = Letterbox((64, 50), (64, 50), (64, 64))
    odd = logits.half().to(memory_format=torch.channels_last)[0]
    torch.testing.assert_close(labels_at_source(odd, letterbox), labels_at_source(logits[0], letterbox))
