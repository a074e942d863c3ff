"""Points, lines and polygons of the counters, over arrays; everything in pixels, x to the right and y down."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vision.types import FloatArray

Points = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64]

# Position of an anchor in its box, as shares of width and height; the names are supervision's.
ANCHORS: dict[str, tuple[float, float]] = {
    "bottom_center": (0.5, 1.0),
    "center": (0.5, 0.5),
    "top_center": (0.5, 0.0),
    "bottom_left": (0.0, 1.0),
    "bottom_right": (1.0, 1.0),
    "center_left": (0.0, 0.5),
    "center_right": (1.0, 0.5),
    "top_left": (0.0, 0.0),
    "top_right": (1.0, 0.0),
}


def anchor_points(boxes: FloatArray, anchor: str) -> Points:
    """Return the anchors float64 [N, 2] (x, y) of xyxy boxes [N, 4].

    >>> anchor_points(np.array([[0, 0, 10, 40]], np.float32), "bottom_center").tolist()
    [[5.0, 40.0]]
    """
    share = np.array(ANCHORS[anchor])
    corners = boxes.astype(np.float64)
    points: Points = corners[:, :2] * (1 - share) + corners[:, 2:] * share
    return points


def margins(boxes: FloatArray, share: float) -> Values:
    """Return the distance [N] in pixels that is ``share`` of the height of each box [N, 4]."""
    heights: Values = (boxes[:, 3] - boxes[:, 1]).astype(np.float64)
    return heights * share


def line_coordinates(points: Points, start: Points, end: Points) -> tuple[Values, Values, float]:
    """Return where points [N, 2] lie in the frame of the line from ``start`` to ``end`` [2].

    Returns:
        The distance [N] from the endless line, positive on the left hand seen along it (above a line that runs to the
        right); the way [N] along it from ``start``; and the length of the line.
    """
    way = end - start
    length = float(np.hypot(way[0], way[1]))
    offset = points - start
    left = (offset[:, 0] * way[1] - offset[:, 1] * way[0]) / length
    along = (offset[:, 0] * way[0] + offset[:, 1] * way[1]) / length
    return left, along, length


def polygon_distance(points: Points, corners: npt.NDArray[np.float32], reach: Values) -> Values:
    """Return the signed distance [N] of points [N, 2] from the border of a polygon [E, 2]: >= 0 inside and on it.

    Points farther than ``reach`` [N] from its bounding box have -inf, which saves the time of looking closer.
    """
    beyond = np.maximum(corners.min(axis=0) - points, points - corners.max(axis=0)).max(axis=1)
    distance = np.full(len(points), -np.inf)
    near = np.flatnonzero(beyond <= reach)
    # In C for each point: a mask of pixels, as supervision's PolygonZone has, knows neither distances nor fractions.
    distance[near] = [cv2.pointPolygonTest(corners, (x, y), True) for x, y in points[near].tolist()]
    return distance


def polygon_area(corners: Points) -> float:
    """Return the area of a simple polygon [E, 2], >= 0 (the shoelace formula)."""
    x, y = (corners - corners[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def crossing_edges(corners: Points) -> tuple[int, int] | None:
    """Return two edges of a polygon [E, 2] that cross properly, each by the index of its first corner; None if none."""
    count = len(corners)
    ends = np.roll(corners, -1, axis=0)
    for i in range(count):
        for j in range(i + 2, count):
            if (j + 1) % count != i and _segments_cross(corners[i], ends[i], corners[j], ends[j]):
                return i, j
    return None


def _segments_cross(a: Points, b: Points, c: Points, d: Points) -> bool:
    return _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0


def _turn(a: Points, b: Points, c: Points) -> float:
    """Return a number whose sign is the side of ``c`` seen from ``a`` towards ``b``."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
