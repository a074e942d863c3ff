"""What becomes of tickets: rows for the writing thread, a failure, or another try."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from vision.batch.decoders import Decoders
from vision.batch.grouping import Grouping
from vision.batch.health import Health
from vision.batch.inferers import Inferers
from vision.batch.items import Failure, Shard, Stage
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import ItemOutcome, Ticket
from vision.batch.writing import ShardAssembly, ShardWriting


class Settling:
    """Closes tickets, and puts the outcomes of a shard's items in order.

    Args:
        book, grouping: of the run. decoders, inferers: who must be told.
        writing: takes outcomes. health: is told of them. numbers: of tickets.
        has_streams: whether inference processes keep the state of a ticket's video.

    Attributes:
        items, failures: settled so far.
        again: tickets of further tries, first of all in line.
        assemblies: of the shards that are not committed.
    """

    def __init__(
        self,
        book: TicketBook,
        grouping: Grouping,
        *,
        decoders: Decoders,
        inferers: Inferers,
        writing: ShardWriting,
        health: Health,
        numbers: Iterator[int],
        has_streams: bool,
    ) -> None:
        self.items = self.failures = 0
        self.again: deque[Ticket] = deque()
        self.assemblies: dict[int, ShardAssembly] = {}
        self._book = book
        self._grouping = grouping
        self._decoders = decoders
        self._inferers = inferers
        self._writing = writing
        self._health = health
        self._numbers = numbers
        self._has_streams = has_streams

    def expect(self, shard: Shard) -> None:
        """Take note of a shard whose items will be settled."""
        self.assemblies[shard.index] = ShardAssembly(shard)

    def complete(self, ticket: Ticket) -> None:
        """Settle a ticket whose pictures have all become rows."""
        if not ticket.is_complete:
            return
        rows = self._book.take_rows(ticket)
        failure = None
        if ticket.note is not None:
            failure = self._failure(ticket, "decode", ticket.note, rows=len(rows))
        else:
            self._health.succeeded()
        self._settle(ticket, ItemOutcome(ticket.item, rows, failure))

    def fail(self, ticket: Ticket, stage: Stage, error: str) -> None:
        """Give an item up; nothing of it is kept."""
        if ticket.is_closed:
            return
        self._grouping.give_up(ticket)
        failure = self._failure(ticket, stage, error)
        self._health.failed(failure)
        self._settle(ticket, ItemOutcome(ticket.item, [], failure))

    def _failure(self, ticket: Ticket, stage: Stage, error: str, *, rows: int = 0) -> Failure:
        tries = max(1, ticket.decode_strikes, ticket.infer_strikes)
        return Failure(ticket.item.index, ticket.item.label, stage, error, tries, rows)

    def _settle(self, ticket: Ticket, outcome: ItemOutcome) -> None:
        self._close(ticket)
        self.items += 1
        self.failures += outcome.failure is not None
        assembly = self.assemblies[ticket.shard.index]
        ready = assembly.settle(ticket.position, outcome)
        if ready:
            self._book.held_rows -= sum(len(each.rows) for each in ready)
            self._writing.put(ticket.shard, ready, is_last=assembly.is_complete)

    def restart(self, ticket: Ticket) -> None:
        """Put another try of a ticket's item in line, before all that was not begun, and drop what there is of this."""
        if ticket.is_closed:
            if not ticket.is_at_decoder:
                self._book.discard(ticket)
            return
        self._close(ticket)
        again = Ticket(next(self._numbers), ticket.item, ticket.shard, ticket.position)
        again.decode_strikes, again.infer_strikes = ticket.decode_strikes, ticket.infer_strikes
        self.again.append(again)

    def _close(self, ticket: Ticket) -> None:
        """Take no more notice of a ticket, and free what it has as soon as no process uses it."""
        if ticket.inferer is not None and self._has_streams:
            self._inferers.forget(ticket.inferer, ticket.number)
        if ticket.is_at_decoder:
            self._decoders.cancel(ticket)
        self._book.close(ticket)
