"""What decoders are given, what they say, and what is done when one dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection

from vision.batch.decoders import Decoders
from vision.batch.grouping import Grouping
from vision.batch.messages import Decoded, Finished, Need, Placed
from vision.batch.settling import Settling
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import TRIES, Ticket

# Room for a picture of unknown size; one that needs more asks for it.
_FIRST_ROOM = 1 << 20


class Decoding:
    """The way of tickets through the decoders.

    Args:
        book: of the run. decoders: the processes. grouping: takes pictures. settling: takes failures.
        batch: pictures of one.
        budget: bytes that decoded pictures should take at most.
        timeout_s: as the decoders have it, for errors.
    """

    def __init__(
        self,
        book: TicketBook,
        decoders: Decoders,
        grouping: Grouping,
        settling: Settling,
        *,
        batch: int,
        budget: int,
        timeout_s: float,
    ) -> None:
        self._book = book
        self._decoders = decoders
        self._grouping = grouping
        self._settling = settling
        self._batch = batch
        self._budget = budget
        self._timeout_s = timeout_s
        self._waiting: deque[Ticket] = deque()
        self._sizes: deque[int] = deque([_FIRST_ROOM], maxlen=64)

    @property
    def waiting(self) -> int:
        """Tickets that no decoder has."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether a ticket would go to a decoder at once."""
        return not self._waiting and self._decoders.has_room

    def add(self, ticket: Ticket) -> None:
        """Take a ticket that can be decoded."""
        self._waiting.append(ticket)

    def give_out(self) -> None:
        """Hand to the decoders what they have room for."""
        while self._waiting and self._decoders.has_room:
            ticket = self._waiting.popleft()
            if not ticket.is_closed:
                grants = () if ticket.item.kind == "video" else (self._book.grant(ticket, max(self._sizes)),)
                ticket.is_at_decoder = True
                self._decoders.give(ticket, grants)

    def hear(self, connection: Connection) -> None:
        """Take the next message of a decoder, or its death."""
        try:
            message = self._decoders.receive(connection)
        except EOFError:
            reason, guilty, others = self._decoders.bury(connection)
            self._retry(guilty, others, f"the decoder died of it ({reason})")
            return
        ticket = None if message is None else self._book.get(message.ticket)
        if ticket is None:
            return
        match message:
            case Need(_, size) if not ticket.is_closed:
                self._make_room(ticket, size)
            case Decoded():
                self._take_picture(ticket, message)
            case Finished():
                if message.picture is not None:
                    self._take_picture(ticket, message.picture)
                self._finish(ticket, message)

    def end_overdue(self) -> None:
        """Give up what takes too long, and the processes that work on it."""
        for guilty, others in self._decoders.overdue():
            self._retry(guilty, others, f"nothing came of it within {self._timeout_s:g} s")

    def grant_frames(self, ticket: Ticket) -> None:
        """Give a video's decoder room for as many frames as may be on their way."""
        if ticket.is_closed or ticket.is_decoded or not ticket.frame_size:
            return
        most = max(self._batch, min(2 * self._batch + 2, self._budget // (ticket.frame_size * self._decoders.count)))
        while self._frames_out(ticket) < most:
            self._decoders.grant(ticket, self._book.grant(ticket, ticket.frame_size))

    def _frames_out(self, ticket: Ticket) -> int:
        return len(ticket.grants) + ticket.decoded - len(ticket.rows)

    def _make_room(self, ticket: Ticket, size: int) -> None:
        if ticket.item.kind == "image":
            self._decoders.grant(ticket, self._book.grant(ticket, size))
            return
        self._book.withdraw_smaller(ticket, size)
        ticket.frame_size = size
        self.grant_frames(ticket)

    def _take_picture(self, ticket: Ticket, message: Decoded) -> None:
        del ticket.grants[message.offset]
        if ticket.is_closed:
            self._book.drop_picture(message.offset)
            return
        ticket.decoded += 1
        picture = Placed(ticket.number, ticket.item.index, ticket.item.name, *message[1:])
        if ticket.item.kind == "image":
            self._sizes.append(message.size_hw[0] * message.size_hw[1] * 3)
        self._grouping.add(ticket, picture)

    def _finish(self, ticket: Ticket, message: Finished) -> None:
        ticket.is_at_decoder, ticket.is_decoded, ticket.note = False, True, message.error
        self._book.free_decoding(ticket)
        if ticket.is_closed:
            self._book.discard(ticket)
        elif message.error is not None and not ticket.decoded:
            self._settling.fail(ticket, "decode", message.error)
        else:
            self._grouping.form(ticket)
            self._settling.complete(ticket)

    def _retry(self, guilty: Ticket | None, others: Iterable[Ticket], reason: str) -> None:
        """Begin anew what a lost decoder had; what it worked on has a strike more."""
        for ticket in others:
            ticket.is_at_decoder = False
            self._settling.restart(ticket)
        if guilty is None:
            return
        guilty.decode_strikes += 1
        guilty.is_at_decoder = False
        if guilty.is_closed or guilty.decode_strikes < TRIES:
            self._settling.restart(guilty)
        else:
            self._settling.fail(
                guilty, "decode", f"{guilty.item.name}: {reason}, twice; look at it with another program"
            )
