"""What workers of a run on Ray send back: what became of an order, and errors as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vision import errors
from vision.batch.shard_summary import ShardSummary
from vision.batch.stats import StageSeconds
from vision.errors import VisionError

# Errors that a message alone makes again.
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.ConfigError,
        errors.InvalidInputError,
        errors.ModelError,
        errors.DeviceMemoryError,
        errors.StateError,
        errors.VisionError,
    )
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error on its way to the driver: its class and its message, for not every exception can be pickled."""

    kind: str
    text: str

    @classmethod
    def of(cls, exc: BaseException) -> Trouble:
        """Return what remains of an error; what is not ours becomes a StateError with its class named."""
        if not isinstance(exc, VisionError):
            return cls("StateError", " ".join(f"{type(exc).__name__}: {exc}".split()))
        return cls(next(kind.__name__ for kind in type(exc).__mro__ if kind.__name__ in _KINDS), str(exc))

    def error(self) -> VisionError:
        """Return the error that it was."""
        return _KINDS[self.kind](self.text)


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an order.

    Attributes:
        order: its number. worker: who did it.
        summaries: of the shards that were committed.
        stages, idle_s: of the worker since its start.
        trouble: what ended it, if anything did.
        is_stopped: nothing more will come of this worker.
    """

    order: int
    worker: str
    summaries: tuple[ShardSummary, ...]
    stages: StageSeconds = field(default_factory=StageSeconds)
    idle_s: float = 0.0
    trouble: Trouble | None = None
    is_stopped: bool = False


def totals(summaries: Sequence[ShardSummary]) -> tuple[int, int, int]:
    """Return the items, rows and failures of some shards."""
    return (
        sum(summary.items for summary in summaries),
        sum(summary.rows for summary in summaries),
        sum(len(summary.failures) for summary in summaries),
    )


def last_line(exc: BaseException) -> str:
    """Return what an error of Ray says in the end: the rest is where it was on its way."""
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
