"""The tickets under way and the shared memory that they hold: what is given out comes back, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path

from vision.batch.arena import Arena
from vision.batch.messages import Grant, Placed
from vision.batch.tickets import Group, Ticket


class TicketBook:
    """Tickets by their numbers.

    Args:
        arena: the shared memory.

    Attributes:
        rows: that came so far; those of an item that fails after all are taken off again.
        held_rows: of them, those of tickets that are not complete.
    """

    def __init__(self, arena: Arena) -> None:
        self.rows = self.held_rows = 0
        self._arena = arena
        self._tickets: dict[int, Ticket] = {}

    def __len__(self) -> int:
        return len(self._tickets)

    def __getitem__(self, number: int) -> Ticket:
        return self._tickets[number]

    def get(self, number: int) -> Ticket | None:
        """Return a ticket; None for one that nothing is held for any more."""
        return self._tickets.get(number)

    def streams_of(self, inferer: int) -> list[Ticket]:
        """Return the open tickets whose state is in an inference process."""
        return [each for each in self._tickets.values() if each.inferer == inferer and not each.is_closed]

    def enter(self, ticket: Ticket) -> None:
        """Take note of a new ticket."""
        self._tickets[ticket.number] = ticket

    def grant(self, ticket: Ticket, size: int) -> Grant:
        """Return room for a picture of a ticket."""
        offset = self._arena.allocate(size)
        ticket.grants[offset] = size
        return Grant(ticket.number, offset, size)

    def withdraw_smaller(self, ticket: Ticket, size: int) -> None:
        """Take back room that is too small: frames may change their size within a video."""
        for offset in [offset for offset, granted in ticket.grants.items() if granted < size]:
            del ticket.grants[offset]
            self._arena.free(offset)

    def keep_fetched(self, ticket: Ticket, data: bytes | None, path: Path | None) -> None:
        """Take what was fetched for a ticket until it is decoded."""
        if data is not None:
            ticket.data = (self._arena.allocate(len(data)), len(data))
            self._arena.write(ticket.data[0], data)
        ticket.path = None if path is None else str(path)

    def free_decoding(self, ticket: Ticket) -> None:
        """Take back what only the decoder of a ticket needed."""
        for offset in ticket.grants:
            self._arena.free(offset)
        ticket.grants.clear()
        if ticket.data is not None:
            self._arena.free(ticket.data[0])
            ticket.data = None
        if ticket.path is not None:
            Path(ticket.path).unlink(missing_ok=True)
            ticket.path = None

    def take_row(self, ticket: Ticket, frame_index: int, row: dict[str, object]) -> None:
        """Keep the row of one picture until its item is complete."""
        ticket.rows[frame_index] = row
        self.rows += 1
        self.held_rows += 1

    def take_rows(self, ticket: Ticket) -> list[dict[str, object]]:
        """Return the rows of a ticket in the order of its frames; it has none any more, and they are still held."""
        rows = [ticket.rows[index] for index in sorted(ticket.rows)]
        ticket.rows = {}
        return rows

    def free_picture(self, group: Group, picture: Placed) -> Ticket | None:
        """Take back a picture that a group has done with, and return its ticket if there is still one."""
        self._arena.free(picture.offset)
        ticket = self._tickets.get(picture.ticket)
        if ticket is not None:
            ticket.groups.discard(group.number)
        return ticket

    def open_owner(self, group: Group, picture: Placed) -> Ticket | None:
        """Take note that a group will not come back, and return the open ticket of a picture that it had, if any."""
        ticket = self._tickets.get(picture.ticket)
        if ticket is None or ticket.is_closed:
            return None
        ticket.groups.discard(group.number)
        return ticket

    def drop_picture(self, offset: int) -> None:
        """Take back a picture that came for a closed ticket."""
        self._arena.free(offset)

    def close(self, ticket: Ticket) -> None:
        """Take no more notice of a ticket, and free what no process uses; the rest when its decoder is done with it."""
        ticket.is_closed = True
        for picture in ticket.waiting:
            self._arena.free(picture.offset)
        ticket.waiting = []
        self.held_rows -= len(ticket.rows)
        self.rows -= len(ticket.rows)
        ticket.rows = {}
        if not ticket.is_at_decoder:
            self.discard(ticket)

    def discard(self, ticket: Ticket) -> None:
        """Forget a closed ticket that no decoder has."""
        self.free_decoding(ticket)
        self._tickets.pop(ticket.number, None)
