"""The batch size from which a device gains no more, found by trying."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from vision.errors import DeviceMemoryError

log = logging.getLogger(__name__)

# Sizes that batches are rounded up to: few shapes, so that each is worth a graph, and at most half of a batch unused.
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
# A larger batch waits longer for its pictures and its results; for less than this it is not worth it.
SMALLEST_GAIN = 1.05
# Height and width of what cameras and telephones send most; other sizes get their graphs when they have come a few
# times.
COMMON_SIZES = ((480, 640), (720, 1280))


@dataclass(frozen=True, slots=True)
class BatchTime:
    """A batch size, the median time of a batch in milliseconds, and pictures a second."""

    batch: int
    median_ms: float
    images_per_s: float


@dataclass(frozen=True, slots=True)
class BatchTuning:
    """What tuning found.

    Attributes:
        cap: the batch size to use at most.
        tried: what was measured, ascending.
        out_of_memory: the size that did not fit, or 0.
    """

    cap: int
    tried: tuple[BatchTime, ...]
    out_of_memory: int = 0


def bucket_of(count: int, buckets: Sequence[int] = BATCH_BUCKETS) -> int:
    """Return the smallest bucket that holds ``count``, or the largest there is.

    >>> [bucket_of(count) for count in (1, 3, 32, 40)]
    [1, 4, 32, 32]
    """
    return next((bucket for bucket in buckets if bucket >= count), buckets[-1])


def tune_batch(
    run: Callable[[int], object],
    *,
    buckets: Sequence[int] = BATCH_BUCKETS,
    warm_up: int = 5,
    repeats: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> BatchTuning:
    """Return the smallest batch size beyond which throughput stops growing or memory ends.

    Args:
        run: runs a batch of so many pictures and waits for its results; a lack of memory is DeviceMemoryError.
        buckets: sizes to try, ascending.
        warm_up, repeats: runs before measuring, and runs whose median counts.
        clock: seconds.

    Raises:
        DeviceMemoryError: not even the smallest size fits.
    """
    tried: list[BatchTime] = []
    for batch in buckets:
        try:
            for _ in range(warm_up):
                run(batch)
            times = [_timed(run, batch, clock) for _ in range(repeats)]
        except DeviceMemoryError:
            if not tried:
                raise
            return BatchTuning(_smallest_good(tried), tuple(tried), batch)
        seconds = median(times)
        tried.append(BatchTime(batch, seconds * 1e3, batch / seconds))
        # Twice without a gain, for a single step may be unlucky (a size that a library has no good kernel for).
        if len(tried) > 2 and max(row.images_per_s for row in tried[-2:]) < SMALLEST_GAIN * tried[-3].images_per_s:
            break
    return BatchTuning(_smallest_good(tried), tuple(tried))


def cap_for(sizes_hw: Sequence[tuple[int, int]], tune: Callable[[tuple[int, int]], BatchTuning], name: str) -> int:
    """Return the batch cap for pictures of any of these sizes, and log what was measured of each.

    Args:
        sizes_hw: height and width.
        tune: measures batches of pictures of one size.
        name: of what is measured, for the log.
    """
    caps = []
    for size_hw in sizes_hw:
        tuning = tune(size_hw)
        caps.append(tuning.cap)
        log.info(
            "%s, pictures of %d x %d: batches of at most %d (%s images/s at %s)",
            name,
            *size_hw[::-1],
            tuning.cap,
            ", ".join(f"{row.images_per_s:.0f}" for row in tuning.tried),
            ", ".join(str(row.batch) for row in tuning.tried),
        )
    return min(caps)


def _timed(run: Callable[[int], object], batch: int, clock: Callable[[], float]) -> float:
    start = clock()
    run(batch)
    return max(clock() - start, 1e-9)


def _smallest_good(tried: Sequence[BatchTime]) -> int:
    best = max(row.images_per_s for row in tried)
    return next(row.batch for row in tried if row.images_per_s * SMALLEST_GAIN >= best)
