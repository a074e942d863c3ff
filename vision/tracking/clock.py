"""The time of a stream: how far a new frame is from the last one, in frames, in time steps and in seconds."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError

MAX_STEPS = 1e4
"""Longest prediction: what was not seen for longer is nowhere in particular."""
MAX_FRAME = 2**53
"""Frame numbers are saved as floats, which are exact up to here."""


@dataclass(slots=True)
class Clock:
    """Number and time of the last frame; None as long as none was given.

    Attributes:
        frame_index: number of the last frame that had one.
        timestamp_s: time of the last frame that had one, in seconds.
    """

    frame_index: int | None = None
    timestamp_s: float | None = None

    @property
    def has_time(self) -> bool:
        """Whether frames have timestamps."""
        return self.timestamp_s is not None

    def advance(
        self, frame_index: int | None, timestamp_s: float | None, nominal_fps: float = 0.0
    ) -> tuple[int, float, float]:
        """Move to the next frame and return the frames, the time steps and the seconds since the last one.

        Without numbers every call is one frame. The time step is the number of frames, or with ``nominal_fps`` and
        timestamps the time that has passed in frames of that rate. Seconds are 0 while there are no two timestamps.

        Raises:
            InvalidInputError: number or time do not rise, or the time is not finite; the clock then stands as before.
        """
        frames, seconds = 1, 0.0
        if frame_index is not None:
            frame_index = _whole(frame_index)
        if frame_index is not None and self.frame_index is not None:
            frames = frame_index - self.frame_index
            if frames <= 0:
                raise InvalidInputError(
                    f"frame_index must be above {self.frame_index}, the last one, got {frame_index}; "
                    "feed frames in order, one tracker a stream, or call reset()"
                )
        if timestamp_s is not None and not math.isfinite(timestamp_s):
            raise InvalidInputError(f"timestamp_s must be finite seconds, got {timestamp_s}; leave the time out")
        if timestamp_s is not None and self.timestamp_s is not None:
            seconds = timestamp_s - self.timestamp_s
            if seconds <= 0:
                raise InvalidInputError(
                    f"timestamp_s must be above {self.timestamp_s}, the last one, got {timestamp_s}; "
                    "feed frames in order, or leave the time out"
                )
        self.frame_index = self.frame_index if frame_index is None else frame_index
        self.timestamp_s = self.timestamp_s if timestamp_s is None else timestamp_s
        steps = seconds * nominal_fps if nominal_fps and seconds else float(frames)
        return frames, min(steps, MAX_STEPS), seconds

    def to_numbers(self) -> list[float]:
        """Return both as floats; NaN stands for None, and frame numbers stay exact up to 2^53."""
        return [math.nan if value is None else float(value) for value in (self.frame_index, self.timestamp_s)]

    @classmethod
    def from_numbers(cls, numbers: npt.NDArray[np.floating[Any]]) -> Self:
        """Return the clock that ``to_numbers`` gave."""
        index, time = (float(number) for number in numbers)
        return cls(None if math.isnan(index) else int(index), None if math.isnan(time) else time)


def _whole(frame_index: int) -> int:
    """Return a frame number as int; raises InvalidInputError for fractions, NaN and numbers that cannot be saved."""
    try:
        number = operator.index(frame_index)
    except TypeError:
        number = MAX_FRAME + 1
    if abs(number) > MAX_FRAME:
        raise InvalidInputError(
            f"frame_index must be a whole number of at most 2**53, got {frame_index!r}; count from 0, or leave it out"
        )
    return number
