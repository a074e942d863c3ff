"""Resizing and normalising of pictures on the device, with the numbers of ``vision.runtime.preprocess``.

The area average is separable and linear, so each axis is one product with a matrix. The matrix is a narrow band, and
its rows are taken in blocks: a block multiplies only the pixels that it needs. One gather and one batched product an
axis serve all pictures of a size, which keeps the number of launched kernels small. Growing takes two pixels an axis.

Legend of shape suffixes: B pictures of one size, H and W pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import Normalization

Kernel = Literal["copy", "area", "bilinear", "area-growing"]
# Rows of an output computed together. Larger blocks multiply more zeros, smaller ones leave the device half empty.
BLOCK_ROWS = 32
WEIGHT_ONE = 2048  # 1 in the fixed point of OpenCV's bilinear scaling of 8-bit pictures
# Kernels kept, two for each size of picture, of sources that cameras have: at most 1 MB each.
KEPT_KERNELS = 128
LARGEST_KEPT = 8192


@dataclass(frozen=True, slots=True)
class AxisKernel:
    """The area average of an axis: the matrix [target, source] of shares, as blocks of its band.

    Attributes:
        size: pixels of the output.
        pixels: int64 [G * window], the source pixels of each of G blocks.
        weights: float32 [G, rows, window], rows of a block are at most BLOCK_ROWS; those beyond ``size`` are 0.
    """

    size: int
    pixels: Tensor
    weights: Tensor

    @classmethod
    def build(cls, source: int, target: int, device: torch.device) -> AxisKernel:
        """Return the blocks for ``source`` pixels averaged into ``target <= source``.

        Time and memory grow with the source alone and not with source times target: clients choose both sizes.
        """
        scale, rows = source / target, min(BLOCK_ROWS, target)
        blocks = -(-target // rows)
        window = min(source, math.ceil(rows * scale) + 1)
        first = np.minimum(np.floor(np.arange(blocks) * rows * scale).astype(np.int64), source - window)
        pixels = first[:, None] + np.arange(window)  # [G, window]
        lefts = np.arange(blocks * rows).reshape(blocks, rows, 1) * scale
        # What each source pixel shares with each target pixel, in single steps on one array: it is the large one.
        shares = np.minimum(pixels[:, None] + 1.0, lefts + scale)
        shares -= np.maximum(pixels[:, None], lefts)
        np.maximum(shares, 0, out=shares)
        shares.reshape(-1, window)[target:] = 0
        shares /= scale
        return cls(target, to_device(pixels.reshape(-1), device), to_device(shares.astype(np.float32), device))

    def along_rows(self, pictures_BHX: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return float32 [B, size, X] of numbers [B, H, X] of any type."""
        blocks, rows, window = self.weights.shape
        taken = pictures_BHX.index_select(1, self.pixels).float().reshape(len(pictures_BHX), blocks, window, -1)
        return (self.weights @ taken).reshape(len(pictures_BHX), blocks * rows, -1)[:, : self.size]

    def along_columns(self, pictures_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return float32 [B, C, H, size] of numbers [B, C, H, W] of any type."""
        blocks, rows, window = self.weights.shape
        lead = pictures_BCHW.shape[:-1]
        taken = pictures_BCHW.index_select(3, self.pixels).float().reshape(-1, blocks, window).transpose(0, 1)
        scaled = torch.bmm(taken, self.weights.transpose(1, 2))  # [G, B * C * H, BLOCK_ROWS]
        return scaled.transpose(0, 1).reshape(*lead, blocks * rows)[..., : self.size]


@dataclass(frozen=True, slots=True)
class AxisTaps:
    """The two source pixels of each target pixel and their weights in fixed point, for bilinear scaling.

    Attributes:
        first, second: int64 [T], pixels of the source.
        first_weight, second_weight: int32 [T] in 1/2048.
    """

    first: Tensor
    second: Tensor
    first_weight: Tensor
    second_weight: Tensor

    @classmethod
    def build(cls, source: int, target: int, kernel: Kernel, device: torch.device) -> AxisTaps:
        """Return the taps of an axis: between pixel centres, or as INTER_AREA places them when an axis grows."""
        scale, rows = source / target, np.arange(target, dtype=np.float64)
        if kernel == "bilinear":
            position = (rows + 0.5) * scale - 0.5
            first = np.floor(position)
            share = position - first
        else:
            first = np.floor(rows * scale)
            share = rows + 1 - (first + 1) / scale
            share = np.where(share <= 0, 0, share - np.floor(share))
        weights = (np.rint(part.astype(np.float32) * WEIGHT_ONE).astype(np.int32) for part in (1 - share, share))
        pixels = (np.clip(first + offset, 0, source - 1).astype(np.int64) for offset in (0, 1))
        return cls(*(to_device(values, device) for values in (*pixels, *weights)))


class DeviceResizer:
    """Resizes and normalises pictures that lie on a device; keeps the kernels of the sizes it has seen.

    Not for several threads at once: on CUDA its kernels belong to the stream of the one thread that computes.
    """

    def __init__(self, device: torch.device, normalization: Normalization) -> None:
        scale, shift = (
            np.array(values, np.float32)
            for values in (
                [1 / std for std in normalization.std],
                [mean / std for mean, std in zip(normalization.mean, normalization.std, strict=True)],
            )
        )
        self._scale, self._shift = (to_device(values.reshape(3, 1, 1), device) for values in (scale, shift))
        self._build_area: Callable[[int, int], AxisKernel] = partial(AxisKernel.build, device=device)
        self._kept_area = lru_cache(maxsize=KEPT_KERNELS)(self._build_area)
        self._taps: Callable[[int, int, Kernel], AxisTaps] = lru_cache(maxsize=KEPT_KERNELS)(
            lambda source, target, kernel: AxisTaps.build(source, target, kernel, device)
        )

    def resize(self, pictures_BHWC: Tensor, size_hw: tuple[int, int]) -> Tensor:  # noqa: N803 - shape suffix
        """Return float32 [B, 3, h, w] of whole numbers in [0, 255], scaled from uint8 [B, H, W, 3].

        The numbers are those of ``preprocess.resize``, apart from single steps where a sum lies near a half.
        """
        source_hw = (pictures_BHWC.shape[1], pictures_BHWC.shape[2])
        kernel = choose_kernel(source_hw, size_hw)
        if kernel == "copy":
            return pictures_BHWC.permute(0, 3, 1, 2).float()
        if kernel == "area":
            return self._average(pictures_BHWC, size_hw)
        rows, columns = (self._taps(source, target, kernel) for source, target in zip(source_hw, size_hw, strict=True))
        return interpolate(pictures_BHWC.permute(0, 3, 1, 2), rows, columns)

    def _average(self, pictures_BHWC: Tensor, size_hw: tuple[int, int]) -> Tensor:  # noqa: N803
        batch, height, width, channels = pictures_BHWC.shape
        rows = self._area(height, size_hw[0]).along_rows(pictures_BHWC.reshape(batch, height, -1))
        planes = rows.reshape(batch, size_hw[0], width, channels).permute(0, 3, 1, 2)
        means = self._area(width, size_hw[1]).along_columns(planes)
        if (height, width) == (2 * size_hw[0], 2 * size_hw[1]):
            # OpenCV has a path of its own for halving, in which a half goes up; elsewhere it goes to the even number.
            return means.add_(0.5).floor_()
        return means.round_()

    def _area(self, source: int, target: int) -> AxisKernel:
        return (self._kept_area if source <= LARGEST_KEPT else self._build_area)(source, target)

    def write(self, pictures_BHWC: Tensor, letterbox: Letterbox, out_BCHW: Tensor) -> None:  # noqa: N803
        """Write pictures uint8 [B, H, W, 3], resized and normalised, into float32 [B, 3, h, w], which holds zeros.

        What lies right of and below the scaled pictures is left as it is.
        """
        height, width = letterbox.scaled_hw
        scaled = self.resize(pictures_BHWC, letterbox.scaled_hw)
        torch.sub(scaled * self._scale, self._shift, out=out_BCHW[:, :, :height, :width])


def interpolate(pictures_BCHW: Tensor, rows: AxisTaps, columns: AxisTaps) -> Tensor:  # noqa: N803
    """Return float32 [B, C, h, w] of pictures uint8 [B, C, H, W], joined from two pixels an axis in integers.

    The shifts are OpenCV's for 8 bits: they drop fractions, so a mean computed in floats would lie an eighth higher.
    """
    left = pictures_BCHW.index_select(3, columns.first).int() * columns.first_weight
    lines = (left + pictures_BCHW.index_select(3, columns.second).int() * columns.second_weight) >> 4
    upper = (lines.index_select(2, rows.first) * rows.first_weight[:, None]) >> 16
    lower = (lines.index_select(2, rows.second) * rows.second_weight[:, None]) >> 16
    return ((upper + lower + 2) >> 2).float()


def choose_kernel(source_hw: tuple[int, int], target_hw: tuple[int, int]) -> Kernel:
    """Return the kernel that ``preprocess.resize`` has for these sizes, by OpenCV's rules."""
    if target_hw == source_hw:
        return "copy"
    if target_hw[0] * target_hw[1] >= source_hw[0] * source_hw[1]:
        return "bilinear"
    shrinks = target_hw[0] <= source_hw[0] and target_hw[1] <= source_hw[1]
    return "area" if shrinks else "area-growing"


def to_device(values: npt.NDArray[np.float32 | np.int32 | np.int64], device: torch.device) -> Tensor:
    """Return an array as a tensor on a device; on CUDA by a copy that the current stream does, without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
