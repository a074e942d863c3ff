"""Paths of points made into boxes and run through counters, for the tests of analytics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vision.analytics.counting import Counting
from vision.analytics.events import Event
from vision.analytics.spec import parse_spec

Path = Sequence[tuple[float, float] | None]

# Boxes are 40 pixels high, so a margin of 0.05 is 2 pixels.
HEIGHT = 40.0


def boxes_at(points: Any) -> np.ndarray[Any, Any]:
    """Return boxes of 20 x 40 pixels whose feet stand on the points."""
    feet = np.array(points, np.float64).reshape(-1, 2)
    corners = np.concatenate([feet - np.array([10, HEIGHT]), feet + np.array([10, 0])], axis=1)
    return corners.astype(np.float32)


def line(name: str = "door", start: Any = (0, 100), end: Any = (200, 100), **more: Any) -> dict[str, Any]:
    """Return a line as it stands in a file: from left to right at y = 100, so that upwards is in."""
    return {"name": name, "from": list(start), "to": list(end), **more}


def zone(name: str = "hall", polygon: Any = ((0, 0), (100, 0), (100, 100), (0, 100)), **more: Any) -> dict[str, Any]:
    """Return a zone as it stands in a file: a square of 100 pixels."""
    return {"name": name, "polygon": [list(corner) for corner in polygon], **more}


def make_counting(*counters: dict[str, Any], **more: Any) -> Counting:
    """Return counters of lines and zones as they stand in a file."""
    names = more.pop("class_names", ())
    spec = {
        "lines": [item for item in counters if "from" in item],
        "zones": [item for item in counters if "polygon" in item],
        **more,
    }
    return Counting(parse_spec(spec), class_names=names)


def walk(
    counting: Counting,
    paths: Mapping[int, Path],
    *,
    labels: Mapping[int, int] | None = None,
    times_s: Sequence[float] | None = None,
    size_hw: tuple[int, int] | None = None,
) -> list[Event]:
    """Run paths (id -> the point in each frame, None where unseen) to their end; return all events."""
    events: list[Event] = []
    for index in range(max(map(len, paths.values()), default=0)):
        seen = {key: path[index] for key, path in paths.items() if index < len(path) and path[index] is not None}
        events += counting.update(
            index,
            None if times_s is None else times_s[index],
            np.array(list(seen), np.int64),
            boxes_at([point for point in seen.values() if point is not None]),
            np.array([(labels or {}).get(key, 0) for key in seen], np.int64),
            size_hw,
        )
    return events + counting.finish()


def vertical(*ys: float | None, x: float = 50) -> list[tuple[float, float] | None]:
    """Return a path along x = 50 with these heights; None is a frame in which the track is not seen."""
    return [None if y is None else (x, y) for y in ys]
