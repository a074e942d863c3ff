"""What every result writer is: the last step of a frame's path."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import numpy as np

from vision.types import Frame, FrameResult, Tracks, TrackState


class Writer(ABC):
    """Takes one FrameResult after the other; a context manager.

    Leaving the ``with`` block calls ``close`` also after an error or Ctrl-C: what is finished stays as a valid file.
    """

    @abstractmethod
    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add one frame; ``frame`` may be None for formats without pictures."""

    @abstractmethod
    def close(self) -> None:
        """Finish the output as a valid file and give it its name; a second call does nothing."""

    @abstractmethod
    def abort(self) -> None:
        """Remove the unfinished output."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def reported_tracks(tracks: Tracks) -> Tracks:
    """Return the confirmed tracks that were matched in this frame: what the MOT benchmark counts and what is drawn."""
    return tracks[(tracks.states == TrackState.CONFIRMED) & (tracks.time_since_update == 0)]


def class_name(class_names: tuple[str, ...], label: int) -> str:
    """Return the name of a label, or the number as text when there is none."""
    return class_names[label] if 0 <= label < len(class_names) else str(label)


def seconds_text(timestamp_s: float | None) -> str:
    """Return seconds with millisecond digits, or an empty string for None."""
    return "" if timestamp_s is None else f"{timestamp_s:.3f}"


def rounded_xywh(boxes: np.ndarray[tuple[int, ...], np.dtype[np.float32]], digits: int = 2) -> list[list[float]]:
    """Return [x, y, width, height] lists of xyxy boxes [N, 4], rounded in float64 so that 0.1 stays 0.1 in text."""
    from vision.geometry.boxes import xyxy_to_xywh

    rows: list[list[float]] = np.round(xyxy_to_xywh(boxes.astype(np.float64)), digits).tolist()
    return rows
