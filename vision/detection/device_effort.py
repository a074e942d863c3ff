"""How many candidates a batch is given room for, learnt from the batches before."""

from __future__ import annotations

import threading

from vision.detection.device_decode import Effort, power_of_two

SMALLEST_WIDTH = 256  # at the usual thresholds a crowd has fewer
# Batches that did with half of the room, after which it is halved: one request with a threshold of 0 must not make all
# that come after it pay for a thousand candidates.
PATIENCE = 256


class EffortMemory:
    """The effort that recent batches needed: grown at once, halved after a while without need. Safe in any thread."""

    def __init__(self) -> None:
        self._width = SMALLEST_WIDTH
        self._spare = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> Effort:
        """What the next batch is decoded with."""
        return Effort(self._width)

    def note(self, width: int) -> None:
        """Take in how many candidates the fullest picture of a batch had."""
        needed = max(power_of_two(width), SMALLEST_WIDTH)
        with self._lock:
            if needed >= self._width:
                self._width, self._spare = needed, 0
                return
            self._spare += 1
            if self._spare >= PATIENCE:
                self._width, self._spare = self._width // 2, 0
