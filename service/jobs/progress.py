"""How far a running job is, and when it will be done."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

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
    eta_s: float | None = None
    frames_per_s: float | None = None

    @classmethod
    def of(cls, phase: Phase, done: int, total: int | None, *, wants_video: bool) -> Self:
        """Return the moment without anything that needs time."""
        if total is not None:
            total = max(total, done)  # headers lie
        share = done / total if total else 0.0
        if wants_video:
            share = share * (1 - RENDER_SHARE) if phase is Phase.TRACK else 1 - RENDER_SHARE + share * RENDER_SHARE
        return cls(phase, done, total, share)


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
        self._lock = threading.Lock()
        self._phase = Phase.TRACK
        self._done = 0
        self._total: int | None = None
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def begin(self, phase: Phase, *, total: int | None, done: int = 0) -> None:
        """Say that a phase begins, ``done`` frames being there from before."""
        with self._lock:
            self._phase, self._done, self._total = phase, done, total
            self._samples = deque([(self._clock(), done)])
        self._notify()

    def reach(self, done: int) -> None:
        """Say that ``done`` frames of the phase are there."""
        now = self._clock()
        with self._lock:
            self._done = done
            samples = self._samples
            if now - samples[-1][0] < SAMPLE_S:
                return
            samples.append((now, done))
            while len(samples) > 2 and samples[1][0] < now - WINDOW_S:
                samples.popleft()
        self._notify()

    def view(self) -> ProgressView:
        """Return the present moment."""
        with self._lock:
            view = ProgressView.of(self._phase, self._done, self._total, wants_video=self._wants_video)
            rate = self._rate()
        return replace(view, eta_s=self._eta(view, rate), frames_per_s=rate)

    def _rate(self) -> float | None:
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last > first and last_s > first_s else None

    def _eta(self, view: ProgressView, rate: float | None) -> float | None:
        if rate is None or view.frames_total is None:
            return None
        eta_s = (view.frames_total - view.frames_done) / rate
        if self._wants_video and view.phase is Phase.TRACK:
            eta_s += view.frames_total / rate * RENDER_SHARE / (1 - RENDER_SHARE)
        return eta_s
