"""A zone that knows who is inside, since when, and who has come and gone.

supervision's PolygonZone is not used: it answers for single frames, from a mask of whole pixels, without ids, visits
or times. A track comes in with ``min_frames`` observations inside and leaves with as many outside, farther than the
margin from the border; so somebody who stands on the border makes one visit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from vision.analytics.events import Event, Kind, Moment, seconds_or_none
from vision.analytics.geometry import Values, anchor_points, margins, polygon_distance
from vision.analytics.memory import Rows, TrackMemory
from vision.analytics.spec import ZoneSpec
from vision.types import FloatArray, IntArray

_UNKNOWN, _OUTSIDE, _INSIDE = -1, 0, 1
_DIRECTIONS = {Kind.ENTER: "in", Kind.APPEAR: "in", Kind.EXIT: "out", Kind.VANISH: "out", Kind.PRESENT: ""}


@dataclass(frozen=True, slots=True)
class Visit:
    """How long a track was in a zone: frames, and seconds or None without timestamps."""

    label: int
    frames: int
    seconds: float | None


class ZoneCounter:
    """Follows the visits of one zone.

    Attributes:
        counts: (label, kind) -> events.
        visits: those that have ended, or were open at the end of the run.
        peak: most tracks inside at a time.
        peak_at: the first frame of the peak; None before any track was inside.
    """

    def __init__(self, spec: ZoneSpec, size_hw: tuple[int, int] | None = None) -> None:
        self.spec = spec
        self.counts: Counter[tuple[int, Kind]] = Counter()
        self.visits: list[Visit] = []
        self.peak = 0
        self.peak_at: Moment | None = None
        self._size_hw = size_hw
        self._corners = np.array(spec.polygon, np.float32)
        self._memory = TrackMemory(
            {
                "state": (np.int64, _UNKNOWN),
                "run": (np.int64, 0),  # observations against the state
                "turned": (np.int64, -1),  # frame of the first of them
                "turned_s": (np.float64, np.nan),
                "since": (np.int64, -1),  # frame in which the visit began
                "since_s": (np.float64, np.nan),
            }
        )

    @property
    def occupancy(self) -> int:
        """Tracks inside now; one that is hidden counts until it is forgotten."""
        return int((self._memory.rows["state"] == _INSIDE).sum())

    def total(self, kind: Kind) -> int:
        """Return the number of events of a kind over all classes."""
        return sum(count for (_, found), count in self.counts.items() if found == kind)

    def forget(self, before: int) -> list[Event]:
        """Drop tracks that were last seen before the frame ``before``; those inside have vanished there."""
        gone = self._memory.expire(before)
        return [self._end_visit(row, Kind.VANISH, "seen") for row in gone[gone["state"] == _INSIDE]]

    def update(self, now: Moment, ids: IntArray, boxes: FloatArray, labels: IntArray) -> list[Event]:
        """Take the tracks observed in one frame and return what has become certain.

        Args:
            now: the frame.
            ids, boxes, labels: [M] unique, [M, 4] xyxy pixels, [M].
        """
        if not len(ids):
            return []
        margin = margins(boxes, self.spec.margin)
        depth = polygon_distance(self._points(boxes), self._corners, margin)
        at = self._memory.find(ids)
        rows = self._memory.rows[at]
        was_known = rows["state"] != _UNKNOWN
        flips = _settle(rows, now, depth, margin, self.spec.min_frames)
        rows["label"], rows["seen"], rows["seen_s"] = labels, now.frame_index, now.time_s
        events = [
            self._begin_visit(rows[i : i + 1], Kind.ENTER if was_known[i] else Kind.APPEAR)
            if rows["state"][i] == _INSIDE
            else self._end_visit(rows[i], Kind.EXIT, "turned")
            for i in np.flatnonzero(flips)
        ]
        self._memory.rows[at] = rows
        if self.occupancy > self.peak:
            self.peak, self.peak_at = self.occupancy, now
        return events

    def finish(self) -> list[Event]:
        """Close the visits that are still open, up to the last observation, and return them as ``present`` events."""
        rows = self._memory.rows
        return [self._end_visit(row, Kind.PRESENT, "seen") for row in rows[rows["state"] == _INSIDE]]

    def _points(self, boxes: FloatArray) -> Values:
        """Return the anchors, held inside the frame: at its border the filter's estimate wanders out of a zone."""
        points = anchor_points(boxes, self.spec.anchor)
        if self._size_hw is not None:
            points = np.clip(points, 0.0, (float(self._size_hw[1]), float(self._size_hw[0])))
        return points

    def _begin_visit(self, row: Rows, kind: Kind) -> Event:
        row["since"], row["since_s"] = row["turned"], row["turned_s"]
        return self._report(row[0], kind, "turned")

    def _end_visit(self, row: Any, kind: Kind, when: str) -> Event:
        """Store and report a visit that ended at the column ``when``."""
        seconds = seconds_or_none(row[f"{when}_s"] - row["since_s"])
        visit = Visit(int(row["label"]), int(row[when] - row["since"]), seconds)
        self.visits.append(visit)
        return self._report(row, kind, when, visit)

    def _report(self, row: Any, kind: Kind, when: str, visit: Visit | None = None) -> Event:
        label = int(row["label"])
        self.counts[label, kind] += 1
        return Event(
            frame_index=int(row[when]),
            timestamp_s=seconds_or_none(row[f"{when}_s"]),
            kind=kind,
            counter=self.spec.name,
            track_id=int(row["id"]),
            label=label,
            direction=_DIRECTIONS[kind],
            dwell_s=None if visit is None else visit.seconds,
            dwell_frames=None if visit is None else visit.frames,
        )


def _settle(rows: Rows, now: Moment, depth: Values, margin: Values, min_frames: int) -> Any:
    """Move tracks in or out, in place, and return which [M] have just settled inside, or outside after a visit."""
    is_inside = depth >= 0
    was_inside = rows["state"] == _INSIDE
    is_against = np.where(was_inside, depth < -margin, is_inside)
    is_with = was_inside == is_inside
    # Within the margin a track that was inside is neither: its run stands still.
    rows["run"] = np.where(is_against, rows["run"] + 1, np.where(is_with, 0, rows["run"]))
    begins = is_against & (rows["run"] == 1)
    rows["turned"][begins], rows["turned_s"][begins] = now.frame_index, now.time_s
    rows["state"][(rows["state"] == _UNKNOWN) & ~is_inside] = _OUTSIDE
    flips = is_against & (rows["run"] >= min_frames)
    rows["state"][flips] = np.where(was_inside[flips], _OUTSIDE, _INSIDE)
    rows["run"][flips] = 0
    return flips
