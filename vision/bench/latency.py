"""The time of a call, as a user waits for it: median and spread over repeats, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

# Engines choose kernels and fill caches in their first calls.
WARM_UP_CALLS = 3
# A network of seconds a call need not be repeated for minutes.
LONGEST_S = 20.0
FEWEST_CALLS = 3


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one call and how often it was repeated.

    Wall time: median, lower and upper quartile, fastest. ``cpu_ms`` is the median processor time of all threads, which
    other work on the machine hardly changes: with one thread it is about what an idle machine needs.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    fastest_ms: float
    cpu_ms: float
    repeats: int

    @classmethod
    def of(cls, times_ms: list[float], cpu_times_ms: list[float]) -> Self:
        """Return the summary of the wall and processor times of single calls.

        >>> Latency.of([4.0, 1.0, 2.0, 3.0, 90.0], [1.0, 1.0, 2.0, 3.0, 3.0])
        Latency(median_ms=3.0, low_ms=2.0, high_ms=4.0, fastest_ms=1.0, cpu_ms=2.0, repeats=5)
        """
        fastest, low, median, high = (round(float(value), 3) for value in np.percentile(times_ms, (0, 25, 50, 75)))
        return cls(median, low, high, fastest, round(float(np.median(cpu_times_ms)), 3), len(times_ms))


def measure_latency(call: Callable[[], object], *, repeats: int) -> Latency:
    """Return the time of ``call``, repeated ``repeats`` times or for 20 seconds, whichever ends first.

    Garbage collection and other work of the process are part of what a user waits for, so nothing is switched off; the
    median does not mind.
    """
    for _ in range(WARM_UP_CALLS):
        call()
    times_ms: list[float] = []
    cpu_times_ms: list[float] = []
    end_s = time.perf_counter() + LONGEST_S
    while len(times_ms) < repeats and (len(times_ms) < FEWEST_CALLS or time.perf_counter() < end_s):
        start_s, cpu_start_s = time.perf_counter(), time.process_time()
        call()
        times_ms.append((time.perf_counter() - start_s) * 1e3)
        cpu_times_ms.append((time.process_time() - cpu_start_s) * 1e3)
    return Latency.of(times_ms, cpu_times_ms)
