"""What a counter reports: one value for each crossing, entry, exit and end of a visit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What happened: CROSS belongs to lines, the others to zones."""

    CROSS = "cross"
    ENTER = "enter"
    EXIT = "exit"
    APPEAR = "appear"
    VANISH = "vanish"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the events file.

    Attributes:
        frame_index: frame, from 0, in which it happened; it is reported some frames later, when it is certain.
        timestamp_s: time of that frame in seconds from the start of the source, or None.
        kind: ``cross`` a line was crossed; ``enter`` and ``exit`` the border of a zone was passed; ``appear`` a track
            began inside a zone; ``vanish`` it was last seen inside; ``present`` it was inside when the run ended.
        counter: name of the line or zone.
        track_id: id of the track.
        label: class of the track in that frame.
        direction: ``in`` or ``out``; empty for ``present``.
        dwell_s: seconds of the visit that ends with this event; None for other events and without timestamps.
        dwell_frames: the same in frames.
    """

    frame_index: int
    timestamp_s: float | None
    kind: Kind
    counter: str
    track_id: int
    label: int
    direction: str
    dwell_s: float | None = None
    dwell_frames: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a frame was: its index from 0 and its time in seconds, NaN where the source has none."""

    frame_index: int
    time_s: float


def seconds_or_none(time_s: float) -> float | None:
    """Return the time, or None for NaN, which stands for an unknown time inside arrays."""
    return None if time_s != time_s else float(time_s)
