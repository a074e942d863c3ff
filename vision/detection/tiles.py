"""Tiled inference: a detector run on overlapping tiles of a large picture, and the boxes merged.

A network sees a picture at its own input size, so what is small in a large picture becomes too small to be found. Tiles
keep it large. See docs/tiling.md for the choices and what they were measured to bring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from vision.detection.config import DetectorConfig
from vision.detection.detector import Detector
from vision.detection.merge import BoolArray, merge_detections
from vision.errors import ConfigError
from vision.types import Detections, FloatArray, Frame, IntArray

# A box that ends this close to the border of its tile, as a share of the tile's side, may go on behind it: detectors
# place the end of a cut object a few pixels off.
BORDER_SHARE = 0.02


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles begin along an axis of ``length`` pixels, ascending from 0.

    Tiles are ``tile`` pixels long and overlap by at least ``round(tile * overlap)``. The last one is moved back so that
    it ends with the axis: together they cover it exactly and none reaches over its end. An axis no longer than a tile
    has one, of the axis's own length.

    >>> tile_starts(1920, 640, 0.2), tile_starts(1080, 640, 0.2), tile_starts(480, 640, 0.2)
    ([0, 512, 1024, 1280], [0, 440], [0])
    """
    if length < 1 or tile < 1 or not 0 <= overlap < 1:
        raise ConfigError(
            f"tiles need a length and a side >= 1 and an overlap in [0, 1), got {length}, {tile} and {overlap}"
        )
    step = max(1, tile - round(tile * overlap))
    last = max(length - tile, 0)
    return [*range(0, last, step), last]


def tile_grid(size_hw: tuple[int, int], tile: int, overlap: float) -> IntArray:
    """Return the tiles of a picture, row by row, as int64 [T, 4] xyxy in pixels; none is outside the picture."""
    height, width = size_hw
    corners = [(x, y) for y in tile_starts(height, tile, overlap) for x in tile_starts(width, tile, overlap)]
    starts = np.array(corners, np.int64)
    return np.concatenate([starts, np.minimum(starts + tile, (width, height))], axis=1)


class TiledDetector:
    """A detector that looks at a picture tile by tile and, by default, once as a whole. Stateless between calls.

    Args:
        detector: what finds objects in each tile. Its ``max_det`` should leave room: ours is applied after merging.
        config: tile, overlap, tile_* and max_det are used here; ``class_agnostic`` holds for merging as well.
    """

    def __init__(self, detector: Detector, config: DetectorConfig) -> None:
        if not config.tile:
            raise ConfigError("a tiled detector needs detection.tile > 0, got 0; use the detector itself")
        self.detector = detector
        self.config = config

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.detector.class_names

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame.

        A frame that fits into one tile gives what the detector gives for it. Memory does not grow with the frame: at
        most ``tile_batch`` tiles are in the detector at once.
        """
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: Frame) -> Detections:
        tiles = tile_grid(frame.size_hw, self.config.tile, self.config.overlap)
        if len(tiles) == 1:
            return self.detector.detect([frame])[0][: self.config.max_det]
        parts, cuts = [], []
        for tile, found in self._detect_tiles(frame, tiles):
            moved = replace(found, boxes=found.boxes + np.tile(tile[:2], 2).astype(np.float32))
            parts.append(moved)
            cuts.append(cut_sides(moved.boxes, tile, frame.size_hw))
        if self.config.tile_full:
            found = self._detect_large(frame)
            parts.append(found)
            cuts.append(np.zeros((len(found), 4), np.bool_))
        merged, _ = merge_detections(
            Detections.concat(parts),
            threshold=self.config.tile_threshold,
            match=self.config.tile_match,
            # With every measure: a box that grows on sides that nothing cut soon matches all of a crowd.
            cut=np.concatenate(cuts),
            class_agnostic=self.config.class_agnostic,
        )
        return merged[: self.config.max_det]

    def _detect_tiles(self, frame: Frame, tiles: IntArray) -> Iterator[tuple[IntArray, Detections]]:
        """Yield each tile with what was found in it, in pixels of the tile."""
        waiting = iter(tiles)
        while batch := list(islice(waiting, self.config.tile_batch)):
            views = [replace(frame, image=frame.image[y1:y2, x1:x2]) for x1, y1, x2, y2 in batch]
            yield from zip(batch, self.detector.detect(views), strict=True)

    def _detect_large(self, frame: Frame) -> Detections:
        """Return what the whole picture shows and no tile can: objects longer than the overlap of two tiles.

        A smaller object lies whole in some tile, where it is seen larger and placed better.
        """
        found = self.detector.detect([frame])[0]
        return found[(found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1) > self.config.tile * self.config.overlap]


def cut_sides(boxes: FloatArray, tile: IntArray, size_hw: tuple[int, int]) -> BoolArray:
    """Return bool [N, 4]: which sides of boxes found in a tile lie at a border behind which the picture goes on.

    Args:
        boxes: xyxy [N, 4] in pixels of the picture.
        tile: xyxy [4] in pixels of the picture.
        size_hw: of the picture.
    """
    height, width = size_hw
    inner = np.array([tile[0] > 0, tile[1] > 0, tile[2] < width, tile[3] < height])
    margin = BORDER_SHARE * np.tile(tile[2:] - tile[:2], 2)
    return np.asarray(inner & (np.abs(boxes - tile) <= margin), np.bool_)
