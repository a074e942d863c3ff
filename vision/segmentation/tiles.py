"""Large pictures in overlapping tiles at their full size, whose logits are blended where they meet.

At a tile's border the network sees less of the surroundings. Weights that fall towards the border let the tile in whose
middle a pixel lies decide, so no seam shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision.segmentation.config import SegmenterConfig
from vision.segmentation.segmenter import EngineSegmenter
from vision.types import FloatArray, Frame, SegmentationMap


class TiledSegmenter:
    """Runs a segmenter on tiles. A picture no larger than a tile goes through whole.

    Args:
        segmenter: gives the logits of a tile; with a ``long_side`` of 0 it sees the picture at its full size.
        config: tile, tile_overlap and max_batch.
    """

    def __init__(self, segmenter: EngineSegmenter, config: SegmenterConfig) -> None:
        self._segmenter = segmenter
        self._config = config

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return one map a frame, one frame after the other: a picture's tiles are batch enough."""
        return [self._segmenter.reading.read(self._picture(frame)) for frame in frames]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label of a map."""
        return self._segmenter.class_names

    def logits(self, frames: Sequence[Frame]) -> list[FloatArray]:
        """Return logits float32 [H, W, K] a frame; those of all frames are in memory at once."""
        return [self._picture(frame) for frame in frames]

    def close(self) -> None:
        """Release the network; further calls raise StateError. Closing twice is allowed."""
        self._segmenter.close()

    def _picture(self, frame: Frame) -> FloatArray:
        side = self._config.tile
        height, width = frame.size_hw
        areas = [
            (top, left, min(top + side, height), min(left + side, width))
            for top in tile_starts(height, side, self._config.tile_overlap)
            for left in tile_starts(width, side, self._config.tile_overlap)
        ]
        total = np.zeros((height, width, self._segmenter.channels), np.float32)
        weight = np.zeros((height, width, 1), np.float32)
        for start in range(0, len(areas), self._config.max_batch):
            chunk = areas[start : start + self._config.max_batch]
            cuts = [
                Frame(np.ascontiguousarray(frame.image[top:bottom, left:right]), frame.index, None, frame.source)
                for top, left, bottom, right in chunk
            ]
            for row, logits in self._segmenter.each_logits(cuts):
                top, left, bottom, right = chunk[row]
                fade = tile_weights(bottom - top, right - left)
                total[top:bottom, left:right] += logits * fade
                weight[top:bottom, left:right] += fade
        # In place: these are the largest arrays of all.
        return np.divide(total, weight, out=total)


def tile_starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where tiles begin along one side: evenly spread, the first at 0, the last ending at ``length``.

    >>> tile_starts(1000, 400, 0.25)
    [0, 300, 600]
    >>> tile_starts(300, 400, 0.25)
    [0]
    """
    if length <= side:
        return [0]
    step = side * (1 - overlap)
    count = int(np.ceil((length - side) / step)) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def tile_weights(height: int, width: int) -> FloatArray:
    """Return float32 [h, w, 1] that falls linearly from the middle to nearly nothing at the border, never to zero."""
    rows, columns = (
        np.minimum(np.arange(length) + 0.5, length - np.arange(length) - 0.5) / length for length in (height, width)
    )
    return np.asarray(np.minimum.outer(rows, columns)[:, :, None], np.float32)
