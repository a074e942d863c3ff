"""Outcomes of items to committed shard files, on a thread of its own: disks are waited for beside the computing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from vision.batch.items import Shard
from vision.batch.tickets import ItemOutcome

if TYPE_CHECKING:
    from vision.batch.shard_file import ShardWriter
    from vision.batch.shard_summary import ShardSummary


class ShardAssembly:
    """The outcomes of a shard's items, put in order: they are settled in any."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._held: dict[int, ItemOutcome] = {}
        self._next = 0

    def settle(self, position: int, outcome: ItemOutcome) -> list[ItemOutcome]:
        """Take the outcome of one item, and return those that can be written now, in order."""
        self._held[position] = outcome
        ready = []
        while self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next += 1
        return ready

    @property
    def is_complete(self) -> bool:
        """Whether every item's outcome has been handed out."""
        return self._next == len(self.shard.items)


class ShardWriting:
    """The thread that writes shards.

    Args:
        open_writer: called for each shard, on the thread.
        on_change: called after each commit and after an error, on the thread.
    """

    def __init__(self, open_writer: Callable[[Shard], ShardWriter], on_change: Callable[[], None]) -> None:
        self._open_writer = open_writer
        self._on_change = on_change
        self._orders: queue.SimpleQueue[tuple[Shard, Sequence[ItemOutcome], bool] | None] = queue.SimpleQueue()
        self._committed: queue.SimpleQueue[ShardSummary] = queue.SimpleQueue()
        self._writers: dict[int, ShardWriter] = {}
        self._error: BaseException | None = None
        self._is_aborted = False
        self._taken = self._done = 0
        self.busy_s = 0.0
        self._thread = threading.Thread(target=self._work, name="stride32-writing", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Rows that are not written yet."""
        return self._taken - self._done

    def put(self, shard: Shard, outcomes: Sequence[ItemOutcome], *, is_last: bool) -> None:
        """Have outcomes written, in order of their items; after the last ones the shard is committed."""
        self._taken += sum(len(outcome.rows) for outcome in outcomes)
        self._orders.put((shard, outcomes, is_last))

    def committed(self) -> list[ShardSummary]:
        """Return what was committed since the last call; raises what went wrong on the thread."""
        summaries = []
        with suppress(queue.Empty):
            while True:
                summaries.append(self._committed.get_nowait())
        if not summaries and self._error is not None:
            raise self._error
        return summaries

    def close(self) -> None:
        """End the thread; shards that are not complete are given up."""
        self._is_aborted = True
        self._orders.put(None)
        self._thread.join()

    def _work(self) -> None:
        try:
            while (order := self._orders.get()) is not None and not self._is_aborted:
                started = time.perf_counter()
                self._write(*order)
                self.busy_s += time.perf_counter() - started
        except BaseException as exc:  # carried to the coordinator, whatever it is
            self._error = exc
            self._on_change()
        finally:
            for writer in self._writers.values():
                writer.abort()

    def _write(self, shard: Shard, outcomes: Sequence[ItemOutcome], is_last: bool) -> None:
        writer = self._writers.get(shard.index)
        if writer is None:
            writer = self._writers[shard.index] = self._open_writer(shard)
        for outcome in outcomes:
            if outcome.rows:
                writer.add(outcome.rows)
            if outcome.failure is not None:
                writer.fail(outcome.failure)
            self._done += len(outcome.rows)
        if is_last:
            summary = writer.commit()
            del self._writers[shard.index]
            self._committed.put(summary)
            self._on_change()
