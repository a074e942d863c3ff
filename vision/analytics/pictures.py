"""Pictures of where objects were, over a whole run: a heat map, and the path of each track; both above a background.

What is kept does not grow with the length of the run: a grid of counts, a layer of lines and a few frames.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from vision.analytics.geometry import anchor_points
from vision.errors import InvalidInputError
from vision.palette import PALETTE_RGB
from vision.types import FloatArray, ImageArray, IntArray

# Beyond it the way between two observations is a guess that would be drawn through walls.
MAX_GAP = 30
CANVAS_RGB = (24, 26, 30)
_MOST_FRAMES = 15
_MOST_BYTES = 128 * 1024 * 1024
# OpenCV draws at 1/16 pixel with this many fractional bits.
_SHIFT = 4


class Background:
    """The median of frames spread over a run, which leaves out what moves."""

    def __init__(self) -> None:
        self._kept: list[ImageArray] = []
        self._step = 1
        self._seen = 0

    def add(self, image: ImageArray) -> None:
        """Offer the next frame, uint8 [H, W, 3]; it is kept without a copy, now and then."""
        if self._seen % self._step == 0 and (not self._kept or image.shape == self._kept[0].shape):
            self._kept.append(image)
            limit = max(1, min(_MOST_FRAMES, _MOST_BYTES // image.nbytes))
            if len(self._kept) > limit:
                self._kept = self._kept[::2] if limit > 1 else self._kept[:1]
                self._step *= 2
        self._seen += 1

    def picture(self) -> ImageArray | None:
        """Return uint8 [H, W, 3], or None before the first frame."""
        if not self._kept:
            return None
        # Row by row: a median of all pixels at once would copy every frame twice.
        return np.stack([np.sort(rows, axis=0)[len(self._kept) // 2] for rows in zip(*self._kept, strict=True)])


def plain_background(size_hw: tuple[int, int]) -> ImageArray:
    """Return a dark uint8 [H, W, 3] picture, for tracks without frames."""
    return np.full((*size_hw, 3), CANVAS_RGB, np.uint8)


class HeatMap:
    """How often the anchors of boxes stood at each place; coloured by supervision.

    Args:
        size_hw: of the frames in pixels.
        anchor: the point of a box that counts.
    """

    def __init__(self, size_hw: tuple[int, int], *, anchor: str = "bottom_center") -> None:
        self._anchor = anchor
        self._counts = np.zeros(size_hw, np.float32)

    def add(self, boxes: FloatArray) -> None:
        """Count the boxes [M, 4] of one frame; anchors beyond the frame are left out."""
        height, width = self._counts.shape
        x, y = np.floor(anchor_points(boxes, self._anchor)).astype(np.int64).T
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        np.add.at(self._counts, (y[inside], x[inside]), 1)

    def draw(self, background: ImageArray, *, opacity: float = 0.6) -> ImageArray:
        """Return a copy of the background uint8 [H, W, 3] with the map over it: blue seldom, red often.

        Args:
            background: RGB, of the size of the frames.
            opacity: strength of the colours, 0 to 1.
        """
        _check_size(background, self._counts.shape)
        picture = background.copy()
        heat = cv2.GaussianBlur(self._counts, (0, 0), math.hypot(*self._counts.shape) / 80)
        if heat.max() <= 0:
            return picture
        # Whoever stands still outweighs all who walk: the root keeps paths visible beside benches.
        heat = np.sqrt(heat / heat.max())
        heat[heat < 0.12] = 0
        import supervision as sv

        # It accumulates by drawing every frame; its memory is filled here instead, so that it draws once.
        annotator = sv.HeatMapAnnotator(opacity=opacity, kernel_size=None, top_hue=0, low_hue=125)
        annotator.heat_mask = heat
        # It draws in BGR.
        drawn = annotator.annotate(np.ascontiguousarray(picture[..., ::-1]), sv.Detections.empty())
        return np.ascontiguousarray(drawn[..., ::-1])


class PathMap:
    """The path of each track as a line in the colour that the track has in annotated videos.

    Args:
        size_hw: of the frames in pixels.
        anchor: the point of a box that draws.
    """

    def __init__(self, size_hw: tuple[int, int], *, anchor: str = "bottom_center") -> None:
        self._anchor = anchor
        # Lines over black are colours times their coverage; the coverage itself is drawn beside them.
        self._colours = np.zeros((*size_hw, 3), np.uint8)
        self._coverage = np.zeros(size_hw, np.uint8)
        self._thickness = max(1, round(2 * math.hypot(*size_hw) / 1469))
        self._last: dict[int, tuple[int, tuple[int, int]]] = {}

    def add(self, frame_index: int, ids: IntArray, boxes: FloatArray) -> None:
        """Draw the steps of the tracks [M] with boxes [M, 4] up to this frame."""
        # Far beyond the frame OpenCV's integers would overflow.
        points = np.clip(anchor_points(boxes, self._anchor), -1e5, 1e5)
        for track_id, (x, y) in zip(ids.tolist(), np.round(points * 2**_SHIFT).astype(int).tolist(), strict=True):
            frame, last = self._last.get(track_id, (-1, (x, y)))
            if frame < 0 or frame_index - frame > MAX_GAP:
                self._dot(track_id, (x, y))
            elif (x, y) != last:
                self._line(track_id, last, (x, y))
            self._last[track_id] = frame_index, (x, y)

    def draw(self, background: ImageArray) -> ImageArray:
        """Return a copy of the RGB background uint8 [H, W, 3], darker, with all paths; a dot begins one."""
        _check_size(background, self._coverage.shape)
        share = self._coverage[..., None].astype(np.float32) / 255
        return (background * (0.65 * (1 - share)) + self._colours).round().astype(np.uint8)

    def _line(self, track_id: int, start: tuple[int, int], end: tuple[int, int]) -> None:
        rgb = PALETTE_RGB[track_id % len(PALETTE_RGB)]
        cv2.line(self._colours, start, end, rgb, self._thickness, cv2.LINE_AA, _SHIFT)
        cv2.line(self._coverage, start, end, 255, self._thickness, cv2.LINE_AA, _SHIFT)

    def _dot(self, track_id: int, point: tuple[int, int]) -> None:
        rgb, radius = PALETTE_RGB[track_id % len(PALETTE_RGB)], (2 * self._thickness + 1) << _SHIFT
        cv2.circle(self._colours, point, radius, rgb, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        cv2.circle(self._coverage, point, radius, 255, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _check_size(background: ImageArray, size_hw: tuple[int, ...]) -> None:
    if background.shape[:2] != size_hw:
        raise InvalidInputError(
            f"the background must have the size of the frames, {size_hw[1]}x{size_hw[0]}, got "
            f"{background.shape[1]}x{background.shape[0]}; give a frame of the same video"
        )
