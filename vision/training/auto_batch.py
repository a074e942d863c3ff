"""The largest batch that fits the memory, found by training steps with batches of growing size."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch

from vision.errors import ConfigError
from vision.training.config import TrainingConfig
from vision.training.memory import PeakMemory, available_bytes, resident_bytes
from vision.training.probe import run_steps
from vision.training.recipe import Parts

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

# The second step is the first with the optimizer's state in memory.
STEPS = 2
# Kept free: pictures with more objects than those tried need more, and so do other programs.
MARGIN = 0.15
SMALLEST, LARGEST = 2, 1024  # batch norm cannot train on one sample


def largest_batch(config: ConfigT, make: Callable[[ConfigT], Parts], *, field: str) -> int:
    """Return the largest value of the setting ``field`` whose training steps fit the memory of the device.

    On CUDA by running out of memory and coming back; on the CPU, where that would end the process, by extrapolating the
    peak of smaller batches. At most the size of the training set, and ``LARGEST``.
    """
    size = getattr(config, field)
    whole = max(SMALLEST, min(LARGEST, len(make(config).loader) * size))

    def run(batch: int) -> None:
        attempt = replace(config, accumulate=1, **{field: batch})  # type: ignore[arg-type]  # a name of a field
        run_steps(attempt, make(attempt), STEPS)
        gc.collect()

    if config.device != "cpu" and torch.cuda.is_available():
        found = search_by_failure(lambda batch: _fits_cuda(run, batch), SMALLEST, whole)
        found = max(SMALLEST, int(found * (1 - MARGIN))) if found < whole else found
    else:
        limit = int(available_bytes() * (1 - MARGIN)) // config.devices
        found = search_by_peak(
            lambda batch: _peak_bytes(run, batch), SMALLEST, whole, base=resident_bytes(), limit=limit
        )
    log.info("the largest %s that fits the memory is %d (the learning rate stays %g)", field, found, config.lr)
    return found


def search_by_failure(fits: Callable[[int], bool], smallest: int, largest: int) -> int:
    """Return the largest batch that ``fits``: doubling until one does not, then halving the gap.

    Raises:
        ConfigError: not even the smallest fits.
    """
    if not fits(smallest):
        raise _nothing_fits(smallest)
    low, high = smallest, smallest
    while high < largest:
        high = min(2 * low, largest)
        if not fits(high):
            break
        low = high
    else:
        return low
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def search_by_peak(measure: Callable[[int], int], smallest: int, largest: int, *, base: int, limit: int) -> int:
    """Return the largest batch whose peak in bytes stays within ``limit``; no batch beyond it is ever tried.

    Args:
        measure: batch -> peak bytes of this process while it trains.
        base: bytes of the process before. A batch twice as large needs at most twice as much above it.

    Raises:
        ConfigError: not even the smallest fits.
    """
    batch, peak = smallest, measure(smallest)
    if peak > limit:
        raise _nothing_fits(smallest)
    while batch < largest:
        following = min(2 * batch, largest)
        if base + (peak - base) * following / batch > limit:
            break
        batch, peak = following, max(peak, measure(following))
        if peak > limit:  # the estimate was too low: step back
            return max(smallest, batch // 2)
    by_growth = int(batch * (limit - base) / max(1, peak - base))
    return max(smallest, min(largest, max(batch, by_growth)))


def _peak_bytes(run: Callable[[int], None], batch: int) -> int:
    with PeakMemory() as memory:
        run(batch)
    log.info("batch %d: at most %.2f GB", batch, memory.peak / 1e9)
    return memory.peak


def _fits_cuda(run: Callable[[int], None], batch: int) -> bool:
    try:
        run(batch)
    except torch.OutOfMemoryError:
        fits = False
    else:
        fits = True
    # Outside of the handler: the exception's frames hold the tensors.
    gc.collect()
    torch.cuda.empty_cache()
    log.info("batch %d %s", batch, "fits" if fits else "does not fit")
    return fits


def _nothing_fits(smallest: int) -> ConfigError:
    return ConfigError(
        f"auto_batch needs memory for a batch of {smallest} at least, that does not fit; "
        "lower the input size, take a smaller backbone or raise freeze_stride"
    )
