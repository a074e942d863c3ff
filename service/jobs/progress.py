"""How far a running job is, and when it will be done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from service.jobs.record import Phase

# The rate is that of the last seconds: networks are shared, so it changes with what others ask for.
WINDOW_S = 10.0
SAMPLE_S = 0.25
# Drawing and encoding take about this share of the whole time on a CPU; until it begins, it can only be guessed.
RENDER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class ProgressView:
    """A moment of a running job.

    Attributes:
        phase: what it does.
        frames_done, frames_total: of this phase; the total is None while unknown.
        share: of the whole job, 0 to 1.
        eta_s: seconds until the job is done, None while that cannot be told.
        frames_per_s: of the last seconds, None at the beginning.
    """

    phase: Phase
    frames_done: int
    frames_total: int | None
    share: float
    eta_s: float | None
    frames_per_s: float | None


class Progress:
    """Written by the thread of the job, read by any.

    Args:
        wants_video: whether drawing follows tracking.
        notify: called when there is something to tell, at most every SAMPLE_S seconds.
    """

    def __init__(
        self, *, wants_video: bool, notify: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wants_video, self._notify, self._clock = wants_video, notify, clock
        self._phase = Phase.TRACK
        self._done = 0
        self._total: int | None = None
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def begin(self, phase: Phase, *, total: int | None, done: int = 0) -> None:
        """Say that a phase begins, ``done`` frames being there from before."""
        self._phase, self._done, self._total = phase, done, total
        self._samples = deque([(self._clock(), done)])
        self._notify()

    def reach(self, done: int) -> None:
        """Say that ``done`` frames of the phase are there."""
        self._done = done
        now = self._clock()
        if now - self._samples[-1][0] < SAMPLE_S:
            return
        samples = self._samples
        samples.append((now, done))
        while len(samples) > 2 and samples[1][0] < now - WINDOW_S:
            samples.popleft()
        self._notify()

    def view(self) -> ProgressView:
        """Return the present moment."""
        phase, done, total = self._phase, self._done, self._total
        if total is not None:
            total = max(total, done)  # headers lie
        rate = self._rate()
        return ProgressView(phase, done, total, self._share(phase, done, total), self._eta(rate, done, total), rate)

    def _share(self, phase: Phase, done: int, total: int | None) -> float:
        part = done / total if total else 0.0
        if not self._wants_video:
            return part
        return part * (1 - RENDER_SHARE) if phase is Phase.TRACK else 1 - RENDER_SHARE + part * RENDER_SHARE

    def _rate(self) -> float | None:
        samples = tuple(self._samples)
        if len(samples) < 2:
            return None
        (first_s, first), (last_s, last) = samples[0], samples[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def _eta(self, rate: float | None, done: int, total: int | None) -> float | None:
        if rate is None or total is None:
            return None
        eta_s = (total - done) / rate
        if self._wants_video and self._phase is Phase.TRACK:
            eta_s += total / rate * RENDER_SHARE / (1 - RENDER_SHARE)
        return eta_s
