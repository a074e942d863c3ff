"""How many inputs a batch may hold: less after the device ran out of memory, and more again when that is long ago."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# Quiet time after which batches may be twice as large again. It doubles each time that this was too early, for a batch
# that finds no memory costs the device its recorded graphs as well.
FIRST_PATIENCE_S = 60.0
LONGEST_PATIENCE_S = 3600.0


class BatchCap:
    """The largest batch of a model. For the device thread; others may read ``size``.

    Args:
        most: what it is without a lack of memory, >= 1.
        clock: seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.size = most
        self._clock = clock
        self._patience_s = FIRST_PATIENCE_S
        self._changed = clock()
        self._has_grown = False

    def shrink(self, tried: int) -> int:
        """Halve after a batch of ``tried`` found no memory, and return what a batch may hold now."""
        now = self._clock()
        if self._has_grown:
            was_early = now - self._changed < self._patience_s
            self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S) if was_early else FIRST_PATIENCE_S
        self.size = max(1, min(self.size, tried) // 2)
        self._changed, self._has_grown = now, False
        return self.size

    def recover(self) -> None:
        """Double after a quiet time, up to what it was at first."""
        if self.size == self.most:
            return
        now = self._clock()
        if now - self._changed >= self._patience_s:
            self.size = min(self.most, 2 * self.size)
            self._changed, self._has_grown = now, True
            log.info("no lack of device memory for %.0f s; batches hold up to %d again", self._patience_s, self.size)
