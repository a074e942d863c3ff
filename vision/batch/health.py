"""Whether a run gets anywhere at all: where every item fails, the job is misconfigured, and no item is to blame."""

from __future__ import annotations

from vision.batch.items import Failure
from vision.errors import StateError

# As many failures in a row before the first success say that it is not the items.
MOST_FAILURES = 20
_ADVICE = {
    "fetch": "check the address, the credentials and the network",
    "infer": "check the model and the device; stride32 detect on one of the pictures shows more",
}


class Health:
    """Counts failures until something succeeds.

    Pictures that cannot be decoded do not count: a folder may well hold twenty bad ones first.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._is_well = False

    def succeeded(self) -> None:
        """An item became rows."""
        self._is_well = True

    def failed(self, failure: Failure) -> None:
        """An item was given up; raises StateError where nothing seems to work, so that no shard is committed empty."""
        if self._is_well or failure.stage not in _ADVICE:
            return
        self._failures += 1
        if self._failures >= MOST_FAILURES:
            raise StateError(
                f"some items must get through, the first {self._failures} all failed at the stage {failure.stage}, the "
                f"last with: {failure.error}; {_ADVICE[failure.stage]}, then run again with --resume"
            )
