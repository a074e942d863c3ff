"""Gaps in tracks: the frames between two seen boxes of a track, and the straight line through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.types import IntArray

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameRuns:
    """Every frame from the first to the last seen box of a track, cut into runs where a gap is too long to fill.

    Made from R seen boxes sorted by track and frame; S rows, no frame is missing within a run.

    Attributes:
        frames: int64 [S].
        before: int64 [S], the seen box at this frame, or the last one before it.
        after: int64 [S], the seen box at this frame, or the next one after it.
        fraction: float64 [S] in [0, 1), the way from ``before`` to ``after``; 0 where the track was seen.
        starts: int64 [G], first row of each run.
    """

    frames: IntArray
    before: IntArray
    after: IntArray
    fraction: Array
    starts: IntArray

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Where a box was seen, bool [S]."""
        return np.asarray(self.before == self.after)

    @property
    def lengths(self) -> IntArray:
        """The number of frames of each run, int64 [G], >= 1."""
        return np.diff(self.starts, append=len(self.frames))


def find_runs(ids: IntArray, frames: IntArray, max_gap: int) -> FrameRuns:
    """Return the runs of tracks ``ids`` [R] seen in ``frames`` [R], sorted by (id, frame).

    A gap of at most ``max_gap`` missing frames is bridged; a longer one ends the run.
    """
    missing = np.diff(frames) - 1
    bridged = (np.diff(ids) == 0) & (missing <= max_gap)
    repeats = np.ones(len(frames), np.int64)
    repeats[:-1][bridged] += missing[bridged]
    first = np.cumsum(repeats) - repeats
    before = np.repeat(np.arange(len(frames)), repeats)
    step = np.arange(len(before)) - first[before]
    begins = np.ones(len(frames), bool)
    begins[1:] = ~bridged
    return FrameRuns(
        frames=frames[before] + step,
        before=before,
        after=before + (step > 0),
        fraction=step / repeats[before],
        starts=first[begins],
    )


def interpolate(runs: FrameRuns, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values [S, ...] on the straight lines between seen values [R, ...]; exactly those where seen."""
    fraction = runs.fraction.reshape(-1, *[1] * (values.ndim - 1))
    # This form and not before + fraction * (after - before): it never leaves the interval by rounding.
    return np.asarray((1 - fraction) * values[runs.before] + fraction * values[runs.after])
