"""How many candidates a batch is given room for, learnt from the batches before."""

from __future__ import annotations

import threading

from vision.detection.device_decode import Effort, power_of_two

SMALLEST_WIDTH = 256  # at the usual thresholds a crowd has fewer
# Batches that did with half of the room, after which it is halved.
PATIENCE = 256
# Each batch that was short of room outweighs so many that were not, and so many in a row make it grow: a batch that is
# short is decoded twice, but with another room no recorded graph fits, which costs all batches that come after it.
SHORT_WEIGHT = 4
SHORT_IN_A_ROW = 4


class EffortMemory:
    """The effort that recent batches needed: grown when more than a few are short of it, halved after a while without
    need. Safe in any thread."""

    def __init__(self) -> None:
        self._width = SMALLEST_WIDTH
        self._spare = 0
        self._short = 0
        self._asked = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> Effort:
        """What the next batch is decoded with."""
        return Effort(self._width)

    def note(self, width: int) -> None:
        """Take in how many candidates the fullest picture of a batch had."""
        needed = max(power_of_two(width), SMALLEST_WIDTH)
        with self._lock:
            if needed > self._width:
                self._grow(needed)
                return
            self._short = max(0, self._short - 1)
            self._spare = self._spare + 1 if needed < self._width else 0
            if self._spare >= PATIENCE:
                self._width, self._spare = self._width // 2, 0

    def _grow(self, needed: int) -> None:
        # As far as all that were short needed it; one picture of noise does not decide.
        self._asked = min(self._asked, needed) if self._short else needed
        self._spare, self._short = 0, self._short + SHORT_WEIGHT
        if self._short >= SHORT_WEIGHT * SHORT_IN_A_ROW:
            self._width, self._short = self._asked, 0
