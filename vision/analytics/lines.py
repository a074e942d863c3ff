"""A line that counts the tracks that cross it, each way.

supervision's LineZone is not used: it forgets a track's side after two frames without a detection, takes a detour
around the end of a line for a crossing and misses steps that begin or end beyond it, and has neither a distance around
the line nor times. Here the path decides, not the place: every step of a track, straight from one observation to the
next, adds +1 or -1 when it passes through the line itself. Jitter cancels in that sum. It becomes a count when the
track has settled on the other side: beyond the margin, in ``min_frames`` observations.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from vision.analytics.events import Event, Kind, Moment, seconds_or_none
from vision.analytics.geometry import Values, anchor_points, line_coordinates, margins
from vision.analytics.memory import Rows, TrackMemory
from vision.analytics.spec import LineSpec
from vision.types import FloatArray, IntArray

IN, OUT = "in", "out"


class LineCounter:
    """Counts the crossings of one line; ``counts`` holds (label, direction) -> crossings."""

    def __init__(self, spec: LineSpec) -> None:
        self.spec = spec
        self.counts: Counter[tuple[int, str]] = Counter()
        self._start, self._end = np.array(spec.start, np.float64), np.array(spec.end, np.float64)
        self._memory = TrackMemory(
            {
                "left": (np.float64, 0.0),  # distance of the last point, positive on the "in" side
                "along": (np.float64, 0.0),
                "side": (np.int64, 0),  # where the track has settled: 1 "in" side, -1 other side, 0 nowhere yet
                "run": (np.int64, 0),  # observations on the other side since
                "net": (np.int64, 0),  # passages through the line since, those to the "in" side less the others
                "passed": (np.int64, -1),  # frame of the last passage
                "passed_s": (np.float64, np.nan),
            }
        )

    @property
    def total_in(self) -> int:
        """Crossings to the "in" side."""
        return sum(count for (_, direction), count in self.counts.items() if direction == IN)

    @property
    def total_out(self) -> int:
        """Crossings from the "in" side."""
        return sum(count for (_, direction), count in self.counts.items() if direction == OUT)

    def forget(self, before: int) -> list[Event]:
        """Drop tracks that were last seen before the frame ``before``; lines report nothing of that."""
        self._memory.expire(before)
        return []

    def update(self, now: Moment, ids: IntArray, boxes: FloatArray, labels: IntArray) -> list[Event]:
        """Take the tracks observed in one frame and return the crossings that have become certain.

        Args:
            now: the frame.
            ids, boxes, labels: [M] unique, [M, 4] xyxy pixels, [M].
        """
        if not len(ids):
            return []
        left, along, length = line_coordinates(anchor_points(boxes, self.spec.anchor), self._start, self._end)
        margin = margins(boxes, self.spec.margin)
        at = self._memory.find(ids)
        rows = self._memory.rows[at]
        _add_passages(rows, now, left, along, length)
        is_certain, is_crossing = _settle(rows, left, margin, self.spec.min_frames)
        events = [self._report(row) for row in rows[is_crossing]]
        rows["net"][is_certain] = 0
        rows["left"], rows["along"], rows["label"] = left, along, labels
        rows["seen"], rows["seen_s"] = now.frame_index, now.time_s
        self._memory.rows[at] = rows
        return events

    def finish(self) -> list[Event]:
        """Return what the end of the run makes certain: nothing, for lines."""
        return []

    def _report(self, row: Any) -> Event:
        direction = IN if row["side"] > 0 else OUT
        label = int(row["label"])
        self.counts[label, direction] += 1
        return Event(
            frame_index=int(row["passed"]),
            timestamp_s=seconds_or_none(row["passed_s"]),
            kind=Kind.CROSS,
            counter=self.spec.name,
            track_id=int(row["id"]),
            label=label,
            direction=direction,
        )


def _add_passages(rows: Rows, now: Moment, left: Values, along: Values, length: float) -> None:
    """Add to ``net`` the steps from the last points that pass through the line between its ends, in place."""
    # A point on the line counts as on the "in" side, so touching it and turning back adds up to 0 from either side.
    is_in, was_in = left >= 0, rows["left"] >= 0
    changed = (rows["seen"] >= 0) & (is_in != was_in)
    if not changed.any():
        return
    share = rows["left"][changed] / (rows["left"][changed] - left[changed])
    where = rows["along"][changed] + share * (along[changed] - rows["along"][changed])
    passes = np.flatnonzero(changed)[(where >= 0) & (where <= length)]
    rows["net"][passes] += np.where(is_in[passes], 1, -1)
    rows["passed"][passes], rows["passed_s"][passes] = now.frame_index, now.time_s


def _settle(rows: Rows, left: Values, margin: Values, min_frames: int) -> tuple[Any, Any]:
    """Move tracks to the side where they have settled, in place.

    Returns:
        Which tracks [M] are certain to be on their side now, and which of them have crossed the line on their way.
    """
    reading = np.where(left >= margin, 1, np.where(left < -margin, -1, 0))
    # The first side is taken at once: without it a fast object would be gone before it has one.
    is_first = (rows["side"] == 0) & (reading != 0)
    agreement = rows["side"] * reading
    rows["run"] = np.where(agreement < 0, rows["run"] + 1, np.where(agreement > 0, 0, rows["run"]))
    flips = (agreement < 0) & (rows["run"] >= min_frames)
    rows["side"] = np.where(is_first | flips, reading, rows["side"])
    rows["run"][flips] = 0
    return is_first | flips | (agreement > 0), flips & (rows["net"] * reading > 0)
