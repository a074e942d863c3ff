"""Resizing on the device against OpenCV, kernel by kernel and at awkward sizes; runs on CPU tensors."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
import torch

from vision.backbones.interface import IMAGENET_NORMALIZATION
from vision.geometry.letterbox import Letterbox
from vision.runtime.device_resize import LARGEST_KEPT, AxisKernel, DeviceResizer, choose_kernel
from vision.runtime.preprocess import preprocess, resize

CPU = torch.device("cpu")


@pytest.fixture
def resizer() -> DeviceResizer:
    return DeviceResizer(CPU, IMAGENET_NORMALIZATION)


def area_matrix(source: int, target: int) -> np.ndarray:
    """Return float64 [target, source]: the share of each source pixel in a target pixel, written out in full."""
    scale = source / target
    starts, pixels = np.arange(target)[:, None] * scale, np.arange(source)
    covered = np.maximum(np.minimum(pixels + 1, starts + scale) - np.maximum(pixels, starts), 0)
    return covered / covered.sum(axis=1, keepdims=True)


def noise(size_hw: tuple[int, int], batch: int = 2) -> np.ndarray:
    return np.random.default_rng(size_hw).integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("source_hw", "target_hw", "kernel"),
    [
        ((480, 640), (384, 512), "area"),
        ((540, 960), (144, 256), "area"),
        ((97, 301), (62, 192), "area"),
        ((512, 512), (256, 256), "area"),  # halves: OpenCV rounds them upwards
        ((300, 450), (100, 150), "area"),
        ((513, 400), (512, 399), "area"),
        ((300, 2), (200, 1), "area"),
        ((1, 2000), (1, 512), "area"),
        ((1000, 33), (33, 1), "area"),
        ((100, 130), (394, 512), "bilinear"),
        ((3, 3), (512, 512), "bilinear"),
        ((1, 1), (64, 64), "bilinear"),
        ((512, 1), (512, 512), "bilinear"),
        ((640, 480), (384, 512), "area-growing"),
        ((50, 200), (60, 100), "area-growing"),
        ((200, 50), (100, 60), "area-growing"),
        ((64, 48), (64, 48), "copy"),
    ],
)
def test_the_numbers_are_those_of_opencv(
    resizer: DeviceResizer, source_hw: tuple[int, int], target_hw: tuple[int, int], kernel: str
) -> None:
    pictures = noise(source_hw)
    assert choose_kernel(source_hw, target_hw) == kernel
    scaled = resizer.resize(torch.from_numpy(pictures), target_hw).permute(0, 2, 3, 1).numpy()
    wanted = np.stack([resize(picture, target_hw) for picture in pictures]).astype(np.float32)
    assert scaled.shape == wanted.shape
    assert np.abs(scaled - wanted).max() <= 1
    # Single pixels whose sum lies at a half may go the other way.
    assert np.abs(scaled - wanted).mean() < 0.02
    assert (scaled == np.round(scaled)).all()


def test_a_flat_picture_stays_flat(resizer: DeviceResizer) -> None:
    pictures = torch.full((1, 211, 333, 3), 255, dtype=torch.uint8)
    for size_hw in ((100, 158), (400, 631), (300, 100)):
        assert (resizer.resize(pictures, size_hw) == 255).all()


@pytest.mark.parametrize("source_hw", [(270, 480), (60, 40), (128, 128)])
def test_write_is_preprocess(resizer: DeviceResizer, source_hw: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(source_hw, long_side=128, multiple=64)
    pictures = noise(source_hw, batch=3)
    out = torch.empty((3, 3, *letterbox.padded_hw), memory_format=torch.channels_last).zero_()
    resizer.write(torch.from_numpy(pictures), letterbox, out)
    wanted = np.stack([preprocess(picture, letterbox, IMAGENET_NORMALIZATION) for picture in pictures])
    one_level = 1.01 / min(IMAGENET_NORMALIZATION.std)
    np.testing.assert_allclose(out.numpy(), wanted, rtol=0, atol=one_level)
    assert np.abs(out.numpy() - wanted).mean() < 1e-3
    height, width = letterbox.scaled_hw
    assert not out[:, :, height:].any()
    assert not out[:, :, :, width:].any()


def test_write_leaves_other_rows_of_the_batch_alone(resizer: DeviceResizer) -> None:
    letterbox = Letterbox.fit((64, 64), long_side=64, multiple=64)
    out = torch.full((3, 3, 64, 64), -7.0)
    resizer.write(torch.from_numpy(noise((64, 64), 1)), letterbox, out[1:2])
    assert (out[[0, 2]] == -7).all()
    assert (out[1] != -7).all()


@pytest.mark.parametrize(("source", "target"), [(1080, 288), (33, 1), (70, 69), (5, 5), (641, 32), (901, 63), (4, 1)])
def test_the_blocks_of_a_kernel_are_its_matrix(source: int, target: int) -> None:
    matrix = area_matrix(source, target)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=0), target / source, atol=1e-12)  # every pixel counts alike
    kernel = AxisKernel.build(source, target, CPU)
    unit = torch.eye(source)[None]
    np.testing.assert_allclose(kernel.along_rows(unit)[0].numpy(), matrix, atol=1e-6)
    np.testing.assert_allclose(kernel.along_columns(unit[None])[0, 0].numpy().T, matrix, atol=1e-6)


def test_a_block_reads_little_more_than_it_needs() -> None:
    kernel = AxisKernel.build(1080, 288, CPU)
    assert kernel.weights.shape[2] <= 32 * 1080 / 288 + 2


@pytest.mark.parametrize(
    ("source_hw", "target_hw"), [((65535, 200), (512, 2)), ((1, 65535), (1, 512)), ((65535, 1), (512, 1))]
)
def test_a_thin_long_picture_costs_no_more_than_its_pixels(
    resizer: DeviceResizer, source_hw: tuple[int, int], target_hw: tuple[int, int]
) -> None:
    """A few kB of PNG hold one: a matrix of source times target would take the device thread half a minute."""
    pictures = noise(source_hw, 1)
    tracemalloc.start()
    began = time.process_time()
    kernel = AxisKernel.build(max(source_hw), max(target_hw), CPU)
    seconds, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kernel.weights.nelement() <= 33 * max(source_hw)
    assert peak < 64 * 2**20
    assert seconds < 2
    scaled = resizer.resize(torch.from_numpy(pictures), target_hw)[0].permute(1, 2, 0).numpy()
    assert np.abs(scaled - resize(pictures[0], target_hw).reshape(scaled.shape)).max() <= 1


def test_kernels_of_odd_sizes_are_not_kept(resizer: DeviceResizer) -> None:
    for width in range(LARGEST_KEPT - 2, LARGEST_KEPT + 5):
        resizer.resize(torch.zeros((1, 1, width, 3), dtype=torch.uint8), (1, 512))
    assert resizer._kept_area.cache_info().currsize <= 4  # three widths, and one height
