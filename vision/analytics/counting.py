"""All counters of a run: tracks of one frame in, events and totals out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from vision.analytics.events import Event, Kind, Moment
from vision.analytics.lines import IN, OUT, LineCounter
from vision.analytics.spec import CounterSpec, CountSpec
from vision.analytics.zones import Visit, ZoneCounter
from vision.errors import ConfigError, InvalidInputError, closest_hint
from vision.tracking.trajectories import Trajectories
from vision.types import FloatArray, IntArray

# The tracker's own default: a track that is not seen for longer is deleted there.
DEFAULT_MAX_GAP = 30

_TOTALS = {
    "entries": Kind.ENTER,
    "exits": Kind.EXIT,
    "appeared": Kind.APPEAR,
    "vanished": Kind.VANISH,
    "present": Kind.PRESENT,
}


class Counting:
    """The lines and zones of one stream; frames must come in order.

    Args:
        spec: what to count, in any units.
        class_names: name of each label; without names ``classes`` must hold numbers.
        max_gap: frames without an observation after which a track has left, where the spec does not say.

    Attributes:
        lines, zones: the counters; empty until the first frame gives its size, or until ``prepare``.

    Raises:
        ConfigError: a class of the spec is unknown.
    """

    def __init__(self, spec: CountSpec, *, class_names: Sequence[str] = (), max_gap: int = DEFAULT_MAX_GAP) -> None:
        self.spec = spec
        self.class_names = tuple(class_names)
        self.max_gap = max_gap if spec.max_gap is None else spec.max_gap
        self.lines: tuple[LineCounter, ...] = ()
        self.zones: tuple[ZoneCounter, ...] = ()
        self.frames = 0
        self._last: Moment | None = None
        self._is_finished = False
        self._labels = {counter.name: find_labels(counter, self.class_names) for counter in (*spec.lines, *spec.zones)}

    @property
    def counters(self) -> tuple[LineCounter | ZoneCounter, ...]:
        """Lines, then zones."""
        return (*self.lines, *self.zones)

    def prepare(self, size_hw: tuple[int, int] | None) -> None:
        """Make the counters for frames of this size (None: unknown); later calls do nothing.

        Raises:
            ConfigError: the size is needed and unknown, or a counter lies outside of the frame.
        """
        if self.counters:
            return
        placed = self.spec.in_pixels(size_hw)
        self.lines = tuple(LineCounter(line) for line in placed.lines)
        self.zones = tuple(ZoneCounter(zone, size_hw) for zone in placed.zones)

    def update(
        self,
        frame_index: int,
        timestamp_s: float | None,
        ids: IntArray,
        boxes: FloatArray,
        labels: IntArray,
        size_hw: tuple[int, int] | None = None,
    ) -> list[Event]:
        """Take the tracks seen in one frame and return what has become certain.

        Args:
            frame_index: from 0, rising; frames may be left out.
            timestamp_s: seconds from the start, or None: then dwell is known in frames alone.
            ids: int64 [M], unique.
            boxes: float32 [M, 4] xyxy pixels.
            labels: int64 [M].
            size_hw: of the frame, needed once for relative coordinates.

        Raises:
            InvalidInputError: the frame does not come after the last one.
        """
        now = Moment(frame_index, np.nan if timestamp_s is None else float(timestamp_s))
        if self._last is not None and frame_index <= self._last.frame_index:
            raise InvalidInputError(
                f"frames must be counted in order, got {frame_index} after {self._last.frame_index}; "
                "use one Counting a stream"
            )
        self.prepare(size_hw)
        self._last, self.frames = now, self.frames + 1
        events: list[Event] = []
        for counter in self.counters:
            wanted = self._labels[counter.spec.name]
            events += counter.forget(frame_index - self.max_gap)
            if wanted is None:
                events += counter.update(now, ids, boxes, labels)
            else:
                counts = np.isin(labels, wanted)
                events += counter.update(now, ids[counts], boxes[counts], labels[counts])
        return events

    def finish(self) -> list[Event]:
        """Return the last events, at the end of the run and before ``totals``; a second call returns none."""
        events: list[Event] = []
        for counter in () if self._is_finished else self.counters:
            events += counter.finish()
        self._is_finished = True
        return events

    def totals(self) -> dict[str, Any]:
        """Return the counts as JSON data: ``frames``, ``lines`` and ``zones`` by name (docs/analytics.md)."""
        return {
            "frames": self.frames,
            "lines": {line.spec.name: self._line_totals(line) for line in self.lines},
            "zones": {zone.spec.name: self._zone_totals(zone) for zone in self.zones},
        }

    def name(self, label: int) -> str:
        """Return the name of a class, or its number as text."""
        return self.class_names[label] if 0 <= label < len(self.class_names) else str(label)

    def _line_totals(self, line: LineCounter) -> dict[str, Any]:
        labels = sorted({label for label, _ in line.counts})
        return {
            IN: line.total_in,
            OUT: line.total_out,
            "classes": {self.name(label): {way: line.counts[label, way] for way in (IN, OUT)} for label in labels},
        }

    def _zone_totals(self, zone: ZoneCounter) -> dict[str, Any]:
        labels = sorted({label for label, _ in zone.counts})
        peak = zone.peak_at
        return {
            **{key: zone.total(kind) for key, kind in _TOTALS.items()},
            "peak": zone.peak,
            "peak_frame": None if peak is None else peak.frame_index,
            "dwell": dwell_statistics(zone.visits),
            "classes": {
                self.name(label): {
                    **{key: zone.counts[label, kind] for key, kind in _TOTALS.items()},
                    "dwell": dwell_statistics([visit for visit in zone.visits if visit.label == label]),
                }
                for label in labels
            },
        }


def find_labels(counter: CounterSpec, class_names: Sequence[str]) -> IntArray | None:
    """Return the labels that a counter counts, or None for all; raises ConfigError for an unknown class."""
    if not counter.classes:
        return None
    labels: list[int] = []
    for wanted in counter.classes:
        if isinstance(wanted, int) and wanted >= 0 and (not class_names or wanted < len(class_names)):
            labels.append(wanted)
        elif wanted in class_names:
            labels.append(list(class_names).index(str(wanted)))
        else:
            known = ", ".join(class_names) or "numbers alone, since these tracks have no class names"
            raise ConfigError(
                f"{counter.name!r} counts the class {wanted!r}{closest_hint(str(wanted), class_names)}, "
                f"which is unknown; known: {known}",
                expected=known,
                actual=str(wanted),
            )
    return np.array(labels, np.int64)


def dwell_statistics(visits: Sequence[Visit]) -> dict[str, float | int | None]:
    """Return visits, and mean, median and longest dwell in frames and in seconds (None where unknown)."""
    frames = [visit.frames for visit in visits]
    seconds = [visit.seconds for visit in visits if visit.seconds is not None]
    found: dict[str, float | int | None] = {"visits": len(visits)}
    for unit, values in (("frames", frames), ("s", seconds)):
        found[f"mean_{unit}"] = round(statistics.fmean(values), 3) if values else None
        found[f"median_{unit}"] = round(statistics.median(values), 3) if values else None
        found[f"max_{unit}"] = round(max(values), 3) if values else None
    return found


def count_trajectories(
    trajectories: Trajectories,
    counting: Counting,
    *,
    fps: float | None = None,
    size_hw: tuple[int, int] | None = None,
    frame_count: int | None = None,
) -> list[Event]:
    """Run finished tracks through ``counting``, to its end, and return all events.

    Args:
        trajectories: the tracks; frames without rows pass as well.
        counting: fresh counters.
        fps: frames a second, > 0, for dwell in seconds; None leaves it in frames.
        size_hw: of the frames, needed for relative coordinates.
        frame_count: frames of the sequence; None ends it with the last row.
    """
    if fps is not None and not fps > 0:
        raise InvalidInputError(f"fps must be above 0, got {fps}; pass None when it is unknown")
    counting.prepare(size_hw)
    events: list[Event] = []
    end = max(int(trajectories.frames[-1]) + 1 if len(trajectories) else 0, frame_count or 0)
    starts = np.searchsorted(trajectories.frames, np.arange(end + 1))
    for frame in range(end):
        rows = slice(starts[frame], starts[frame + 1])
        events += counting.update(
            frame,
            None if fps is None else frame / fps,
            trajectories.ids[rows],
            trajectories.boxes[rows],
            trajectories.labels[rows],
        )
    return events + counting.finish()
