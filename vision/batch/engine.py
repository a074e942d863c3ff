"""What a run asks of an engine, and how it watches one: progress, and when the run must end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vision.batch.facts import CoreFacts
from vision.batch.job import Job
from vision.batch.shard_summary import ShardSummary
from vision.batch.stats import RunProgress, StageSeconds

_PROGRESS_PERIOD_S = 0.2


class Engine(Protocol):
    """What runs the shards of a job."""

    @property
    def facts(self) -> CoreFacts:
        """What the networks are."""
        ...

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items, rows and failures that were settled so far."""
        ...

    @property
    def idle_s(self) -> float:
        """Seconds in which a device had nothing to compute, the mean over the devices."""
        ...

    def stages(self) -> StageSeconds:
        """Return how long the workers of each stage were busy."""
        ...

    def run_job(
        self,
        job: Job,
        pending: Sequence[int],
        *,
        on_progress: Callable[[], None],
        should_stop: Callable[[], bool],
    ) -> Iterator[ShardSummary]:
        """Yield the summary of each pending shard when it is committed."""
        ...


class RunWatch:
    """Tells of progress, and when a run must end."""

    def __init__(
        self,
        job: Job,
        engine: Engine,
        max_errors: int | None,
        on_progress: Callable[[RunProgress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        manifest = job.manifest
        self.committed = 0
        self.skipped_items = 0
        self.stopped_by_errors = self.interrupted = False
        self._earlier_failures = 0
        for summary in job.summaries():
            self.skipped_items += summary.items
            self._earlier_failures += len(summary.failures)
        self._skipped_shards = len(job.committed)
        self._totals = manifest.n_items, manifest.n_shards
        self._engine = engine
        self._max_errors = max_errors
        self._on_progress = on_progress
        self._should_stop = should_stop
        self._told_s = 0.0

    def should_stop(self) -> bool:
        """Return whether the run must end, and remember why."""
        if self._max_errors is not None and self._earlier_failures + self._engine.counts[2] > self._max_errors:
            self.stopped_by_errors = True
        elif self._should_stop():
            self.interrupted = True
        return self.stopped_by_errors or self.interrupted

    def tell(self, *, always: bool = False) -> None:
        """Tell of the progress, unless that was just done."""
        now = time.monotonic()
        if not always and now - self._told_s < _PROGRESS_PERIOD_S:
            return
        self._told_s = now
        items, rows, failures = self._engine.counts
        self._on_progress(
            RunProgress(
                done_items=items,
                total_items=self._totals[0],
                rows=rows,
                failures=failures,
                committed_shards=self._skipped_shards + self.committed,
                total_shards=self._totals[1],
                skipped_items=self.skipped_items,
            )
        )
