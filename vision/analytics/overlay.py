"""Lines, zones and their counts drawn onto frames, as the annotated video shows them."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from vision.analytics.counting import Counting
from vision.analytics.lines import LineCounter
from vision.analytics.zones import ZoneCounter
from vision.types import ImageArray

_LINE_RGB = (255, 215, 0)
_ZONE_RGB = (0, 225, 255)
_EDGE_RGB = (24, 26, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# OpenCV's integers overflow far beyond a frame.
_FAR = 1e5


class CounterOverlay:
    """Draws the counters as they stand; a hook of ``vision.render.Annotator``.

    Args:
        counting: the live counters; they must have seen a frame before it is drawn.
    """

    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def __call__(self, picture: ImageArray) -> None:
        """Draw onto the RGB picture uint8 [H, W, 3], in place."""
        scale = math.hypot(*picture.shape[:2]) / 1469
        for zone in self._counting.zones:
            _draw_zone(picture, zone, scale)
        for line in self._counting.lines:
            _draw_line(picture, line, scale)


def _draw_line(picture: ImageArray, line: LineCounter, scale: float) -> None:
    """Draw the line, an arrow to its "in" side, and both counts."""
    start, end = np.array(line.spec.start), np.array(line.spec.end)
    middle, way = (start + end) / 2, (end - start) / np.hypot(*(end - start))
    inwards = np.array([way[1], -way[0]])
    _stroke(picture, [start, end], _LINE_RGB, scale)
    size = 28 * scale
    tip = middle + inwards * size
    _stroke(picture, [middle, tip], _LINE_RGB, scale)
    _stroke(picture, [tip + (way - inwards) * size / 3, tip, tip - (way + inwards) * size / 3], _LINE_RGB, scale)
    text = f"{line.spec.name}  in {line.total_in}  out {line.total_out}"
    _write(picture, text, start, -way, scale, _LINE_RGB)


def _draw_zone(picture: ImageArray, zone: ZoneCounter, scale: float) -> None:
    """Draw the border of the zone, and how many are inside."""
    corners = np.array(zone.spec.polygon)
    _stroke(picture, [*corners, corners[0]], _ZONE_RGB, scale)
    top = corners[np.argmin(corners[:, 1])]
    _write(picture, f"{zone.spec.name}  {zone.occupancy}", top, np.array([0.0, -1.0]), scale, _ZONE_RGB)


def _stroke(picture: ImageArray, points: Any, rgb: tuple[int, int, int], scale: float) -> None:
    """Draw connected lines with a dark edge, which shows on any ground."""
    thickness = max(1, round(3 * scale))
    rounded = np.clip(np.round(np.array(points)), -_FAR, _FAR).astype(np.int32)
    cv2.polylines(picture, [rounded], False, _EDGE_RGB, thickness + 2, cv2.LINE_AA)
    cv2.polylines(picture, [rounded], False, rgb, thickness, cv2.LINE_AA)


def _write(picture: ImageArray, text: str, point: Any, away: Any, scale: float, rgb: tuple[int, int, int]) -> None:
    """Write a line on a dark plate that lies beyond ``point`` in the direction ``away``, but inside the picture."""
    # OpenCV's strokes know ASCII alone.
    text = text.encode("ascii", "replace").decode()
    font_scale, thickness = max(0.4, 0.7 * scale), max(1, round(1.5 * scale))
    (width, height), baseline = cv2.getTextSize(text, _FONT, font_scale, thickness)
    pad = max(3, round(6 * scale))
    plate = np.array([width + 2 * pad, height + baseline + 2 * pad])
    centre = np.asarray(point) + away * (pad + np.abs(away) @ plate / 2)
    room = np.maximum(np.array([picture.shape[1], picture.shape[0]]) - plate, 0)
    x, y = np.clip(np.round(centre - plate / 2), 0, room).astype(int).tolist()
    cv2.rectangle(picture, (x, y), (x + int(plate[0]), y + int(plate[1])), _EDGE_RGB, cv2.FILLED)
    cv2.putText(picture, text, (x + pad, y + pad + height), _FONT, font_scale, rgb, thickness, cv2.LINE_AA)
