"""One run on one machine, seen from the thread that gives out the work and takes the results; it touches no pixel.

What it holds is bounded at every stage: pictures by the shared memory, rows by their number, orders by the workers. So
a slow disk stops the inference, and slow inference stops the decoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vision.batch.arena import Arena
from vision.batch.config import RunOptions
from vision.batch.decoders import Decoders
from vision.batch.decoding import Decoding
from vision.batch.facts import CoreFacts
from vision.batch.fetchers import Fetchers
from vision.batch.grouping import Grouping
from vision.batch.health import Health
from vision.batch.inference import Inference
from vision.batch.inferers import Inferers
from vision.batch.items import Shard
from vision.batch.listening import Listening
from vision.batch.settling import Settling
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import Ticket
from vision.batch.writing import ShardWriting
from vision.io.images import DEFAULT_LIMITS

if TYPE_CHECKING:
    from vision.batch.shard_file import ShardWriter
    from vision.batch.shard_summary import ShardSummary

# Rows that may wait for the disk, or for an earlier item of their shard.
_MAX_HELD_ROWS = 50_000
_PERIOD_S = 0.5
# Decoded pictures that wait: in the time of a hiccup networks on CPUs take a dozen, a GPU hundreds.
_CPU_WAITING_MB, _GPU_WAITING_MB = 128, 512


class Coordinator:
    """The state of one run.

    Args:
        shards: what to do, asked for one by one.
        open_writer: called for each shard, on the writing thread.
        facts: of the networks. options: of the run.
        arena, decoders, inferers: the workers and the memory that they share.
        folder: for videos that are fetched.
        health: whether these workers have ever got anywhere.
        numbers: of tickets and batches; never the same twice, also in the next run with these workers.

    Attributes:
        writing, fetchers: whose busy time is asked for.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        open_writer: Callable[[Shard], ShardWriter],
        *,
        facts: CoreFacts,
        options: RunOptions,
        arena: Arena,
        decoders: Decoders,
        inferers: Inferers,
        folder: Path,
        numbers: Iterator[int],
        health: Health,
    ) -> None:
        self._arena = arena
        self._decoders = decoders
        self._inferers = inferers
        enough_mb = _GPU_WAITING_MB if facts.device.startswith("cuda") else _CPU_WAITING_MB
        self._budget = (options.max_waiting_mb or enough_mb) * 1_000_000
        self._listening = Listening()
        self.writing = ShardWriting(open_writer, self._listening.wake)
        self.fetchers = Fetchers(
            options.fetchers,
            folder=folder,
            max_bytes=DEFAULT_LIMITS.max_bytes,
            timeout_s=options.item_timeout_s,
            on_change=self._listening.wake,
        )
        self._numbers = numbers
        has_streams = facts.task == "track"
        self._book = TicketBook(arena)
        self._grouping = Grouping(self._book, inferers, facts, self._numbers)
        self._settling = Settling(
            self._book,
            self._grouping,
            decoders=decoders,
            inferers=inferers,
            writing=self.writing,
            health=health,
            numbers=numbers,
            has_streams=has_streams,
        )
        self._decoding = Decoding(
            self._book,
            decoders,
            self._grouping,
            self._settling,
            batch=facts.batch,
            budget=self._budget,
            timeout_s=options.item_timeout_s,
        )
        self._inference = Inference(
            self._book,
            inferers,
            self._grouping,
            self._settling,
            has_streams=has_streams,
            on_frame=self._decoding.grant_frames,
        )
        self._todo = self._work(shards)
        self._next: Ticket | None = next(self._todo, None)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items settled, rows that came (those of an item that fails after all are taken off again), and failures."""
        return self._settling.items, self._book.rows, self._settling.failures

    def summaries(self, on_progress: Callable[[], None], should_stop: Callable[[], bool]) -> Iterator[ShardSummary]:
        """Yield what is committed until all is, or until the run should stop.

        Raises:
            VisionError: nothing can be written, or nothing at all can be processed.
        """
        while self._has_work and not should_stop():
            self._give_out()
            inferers, decoders = self._inferers.connections, self._decoders.connections
            for connection in self._listening.wait([*inferers, *decoders], _PERIOD_S):
                if connection in inferers:
                    self._inference.hear(connection)
                else:
                    self._decoding.hear(connection)
            self._take_fetched()
            self._decoding.end_overdue()
            self._inference.end_overdue()
            for summary in self.writing.committed():
                del self._settling.assemblies[summary.index]
                yield summary
            on_progress()

    @property
    def _has_work(self) -> bool:
        # Batches of tickets that were given up meanwhile come back as well: their memory is somebody's.
        return self._next is not None or bool(self._book) or bool(self._settling.assemblies) or self._inferers.has_work

    def close(self) -> None:
        """Give up what is not committed."""
        self.writing.close()
        self._listening.close()

    def _work(self, shards: Iterable[Shard]) -> Iterator[Ticket]:
        for shard in shards:
            self._settling.expect(shard)
            self._grouping.expect(shard)
            for position, item in enumerate(shard.items):
                yield Ticket(next(self._numbers), item, shard, position)

    def _give_out(self) -> None:
        """Hand out all that there is room for."""
        self._inference.give_out()
        self._decoding.give_out()
        while (upcoming := self._upcoming()) is not None and self._may_admit(upcoming):
            if self._settling.again:
                self._settling.again.popleft()
            else:
                self._next = next(self._todo, None)
            self._book.enter(upcoming)
            if upcoming.item.is_remote:
                self.fetchers.submit(upcoming.number, upcoming.item)
            else:
                self._decoding.add(upcoming)
                self._decoding.give_out()

    def _upcoming(self) -> Ticket | None:
        return self._settling.again[0] if self._settling.again else self._next

    def _may_admit(self, upcoming: Ticket) -> bool:
        """Return whether another item may be begun without holding more than is good."""
        if upcoming.item.is_remote:
            has_room = self.fetchers.under_way + self._decoding.waiting < self.fetchers.threads + self._decoders.count
        else:
            has_room = self._decoding.has_room
        if not has_room or self._book.held_rows + self.writing.waiting > _MAX_HELD_ROWS:
            return False
        # A batch may wait for a neighbour that was not begun: then memory must not keep that one from coming.
        return self._arena.in_use < self._budget or self._inferers.is_starved

    def _take_fetched(self) -> None:
        for fetched in self.fetchers.results():
            ticket = self._book.get(fetched.ticket)
            if ticket is None:
                if fetched.path is not None:
                    fetched.path.unlink(missing_ok=True)
            elif fetched.error is not None:
                self._settling.fail(ticket, "fetch", fetched.error)
            else:
                self._book.keep_fetched(ticket, fetched.data, fetched.path)
                self._decoding.add(ticket)
