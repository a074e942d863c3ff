"""Letterbox: scale a picture to fit a network's input and pad the rest, with an exact inverse for boxes and points.

The picture lies in the top left corner and the padding to the right and below, so the map is one scale for x and one
for y without an offset. The two scales differ by rounding only and are kept apart, which makes the inverse exact
instead of nearly so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from vision.errors import InvalidInputError
from vision.geometry.boxes import Boxes, clip_boxes


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The map from an original picture to a padded network input.

    Attributes:
        source_hw: size of the original picture in pixels.
        scaled_hw: size after scaling, before padding.
        padded_hw: size of the network input; at least scaled_hw.
    """

    source_hw: tuple[int, int]
    scaled_hw: tuple[int, int]
    padded_hw: tuple[int, int]

    @classmethod
    def fit(cls, source_hw: tuple[int, int], *, long_side: int, multiple: int) -> Self:
        """Return the letterbox whose longer side is ``long_side`` pixels, padded up to a multiple of ``multiple``.

        The aspect ratio of the source decides the shape, so a 16:9 picture does not pay for a square input.
        """
        height, width = source_hw
        if min(height, width, long_side, multiple) < 1:
            raise InvalidInputError(
                f"letterbox sizes must be >= 1, got source {source_hw}, long_side {long_side}, multiple {multiple}"
            )
        scale = long_side / max(height, width)
        scaled_hw = (max(1, round(height * scale)), max(1, round(width * scale)))
        padded_hw = (-(-scaled_hw[0] // multiple) * multiple, -(-scaled_hw[1] // multiple) * multiple)
        return cls(source_hw, scaled_hw, padded_hw)

    @classmethod
    def stretch(cls, source_hw: tuple[int, int], target_hw: tuple[int, int]) -> Self:
        """Return the map that fills ``target_hw`` exactly, changing the aspect ratio (crops of the embedder)."""
        return cls(source_hw, target_hw, target_hw)

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Network pixels for one original pixel along x and y."""
        return self.scaled_hw[1] / self.source_hw[1], self.scaled_hw[0] / self.source_hw[0]

    def to_network(self, boxes: Boxes) -> Boxes:
        """Return xyxy boxes [N, 4] of the original picture in pixels of the network input."""
        return boxes * np.asarray(self.scale_xy * 2, boxes.dtype)

    def to_source(self, boxes: Boxes, *, clip: bool = True) -> Boxes:
        """Return xyxy boxes [N, 4] of the network input in pixels of the original picture, clipped to it by default."""
        restored = boxes / np.asarray(self.scale_xy * 2, boxes.dtype)
        return clip_boxes(restored, self.source_hw) if clip else restored


def rows_by_shape(letterboxes: Sequence[Letterbox]) -> dict[tuple[int, int], list[int]]:
    """Return padded size -> rows of the letterboxes that have it: those that can share a batch."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row, letterbox in enumerate(letterboxes):
        groups[letterbox.padded_hw].append(row)
    return groups
