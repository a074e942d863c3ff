"""The image pyramid of the sliding-window detector: one picture at several sizes, each on a canvas of whole windows.

Windows have one size and people have many, so the picture is scaled until they fit (Dalal and Triggs 2005, section 6;
Sermanet et al. 2013, section 3.3). The canvas adds a margin of the mean colour, because a window reaches beyond the
object in it, and an object may stand at the picture's edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vision.detection.window_network import WindowGeometry
from vision.runtime.preprocess import Normalization, normalize, resize
from vision.types import FloatArray, ImageArray

# Share of the smallest nominal box between the picture's edge and the nearest window centre: an object that touches the
# edge has its centre half a box away.
INSET = 0.75
# Pixels of canvas in one forward pass; larger levels run in strips, so a pass needs at most about 0.6 GB.
MAX_CANVAS_PIXELS = 1_500_000


@dataclass(frozen=True, slots=True)
class PyramidLevel:
    """One size of a picture.

    Attributes:
        source_hw: size of the original picture.
        scaled_hw: its size at this level.
        offset_yx: canvas pixels above and left of the scaled picture.
        grid_hw: rows and columns of windows.
        geometry: size and step of the windows.
    """

    source_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    offset_yx: tuple[int, int]
    grid_hw: tuple[int, int]
    geometry: WindowGeometry

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Height and width of the canvas, which holds exactly the level's windows."""
        return self._span(self.grid_hw[0], 0), self._span(self.grid_hw[1], 1)

    def nominal_boxes(self) -> Tensor:
        """Return float32 [rows * columns * aspects, 4]: the nominal boxes in pixels of the original picture."""
        boxes = self.geometry.nominal_boxes(self.grid_hw)
        top, left = self.offset_yx
        scale = torch.tensor([s / t for s, t in zip(self.source_hw, self.scaled_hw, strict=True)])
        return (boxes - torch.tensor([left, top, left, top])) * scale[[1, 0, 1, 0]]

    def strips(self, pictures: int) -> Iterator[range]:
        """Yield ranges of window rows such that a strip of ``pictures`` canvases keeps to the memory limit.

        Without padding a strip gives what the whole canvas gives; the cost is the height of a window that neighbours
        share.
        """
        rows = self.grid_hw[0]
        allowed_height = MAX_CANVAS_PIXELS / max(1, pictures) / self.canvas_hw[1]
        in_strip = max(1, int((allowed_height - self.geometry.crop_hw[0]) // self.geometry.stride) + 1)
        for first in range(0, rows, in_strip):
            yield range(first, min(rows, first + in_strip))

    def canvas(self, scaled: ImageArray, rows: range, normalization: Normalization) -> FloatArray:
        """Return the normalised strip [3, h, canvas width] that holds the given window rows.

        Args:
            scaled: the picture uint8 [*scaled_hw, 3]; see ``scale``.
            rows: window rows; ``range(grid_hw[0])`` gives the whole canvas.
            normalization: constants of the network.
        """
        height, width = self._span(len(rows), 0), self.canvas_hw[1]
        strip = np.zeros((3, height, width), np.float32)
        top, left = self.offset_yx
        start = rows.start * self.geometry.stride - top  # in rows of the scaled picture
        first, last = max(0, start), min(scaled.shape[0], start + height)
        columns = min(scaled.shape[1], width - left)
        if last > first:
            part = normalize(scaled[first:last, :columns], normalization)
            strip[:, first - start : last - start, left : left + columns] = part
        return strip

    def scale(self, image: ImageArray) -> ImageArray:
        """Return the picture uint8 [H, W, 3] at the size of this level."""
        return resize(image, self.scaled_hw)

    def _span(self, windows: int, axis: int) -> int:
        """Return the pixels that so many neighbouring windows cover."""
        return self.geometry.crop_hw[axis] + (windows - 1) * self.geometry.stride


def build_pyramid(
    source_hw: tuple[int, int], geometry: WindowGeometry, *, long_side: int, scales_per_octave: int
) -> list[PyramidLevel]:
    """Return the levels of a picture, largest first.

    Args:
        source_hw: height and width of the picture.
        geometry: of the windows.
        long_side: longer side of the first level in pixels, whatever the picture's size: it decides the smallest object
            that is found, and bounds time and memory.
        scales_per_octave: levels until the size has halved.

    On the last level the picture is about as large as a nominal box, so an object that fills it still fits a window.
    """
    longest = max(source_hw)
    smallest = min(max(side) for side in geometry.sides_hw)
    steps = max(0, math.ceil(math.log2(max(long_side / smallest, 1)) * scales_per_octave))
    return [
        _level(source_hw, geometry, long_side / longest / 2 ** (step / scales_per_octave)) for step in range(steps + 1)
    ]


def _level(source_hw: tuple[int, int], geometry: WindowGeometry, scale: float) -> PyramidLevel:
    scaled_hw = (max(1, round(source_hw[0] * scale)), max(1, round(source_hw[1] * scale)))
    offsets, counts = [], []
    for axis in range(2):
        inset = INSET * min(side[axis] for side in geometry.sides_hw) / 2
        offsets.append(max(0, math.floor(geometry.crop_hw[axis] / 2 - inset)))
        last_centre = max(scaled_hw[axis] - inset, inset)
        first_centre = geometry.crop_hw[axis] / 2 - offsets[axis]
        counts.append(max(0, math.ceil((last_centre - first_centre) / geometry.stride)) + 1)
    return PyramidLevel(source_hw, scaled_hw, (offsets[0], offsets[1]), (counts[0], counts[1]), geometry)
