"""What inference processes are given, what they answer, and what is done when one dies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection

from vision.batch.grouping import Grouping
from vision.batch.inferers import Inferers
from vision.batch.messages import Inferred
from vision.batch.settling import Settling
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import TRIES, Group, Ticket


class Inference:
    """The way of batches through the inference processes.

    Args:
        book: of the run. inferers: the processes. grouping: sends lost batches again.
        settling: takes rows and failures.
        has_streams: whether the processes keep the state of a ticket's video.
        on_frame: called with a video's ticket when a frame of it has left the memory.
    """

    def __init__(
        self,
        book: TicketBook,
        inferers: Inferers,
        grouping: Grouping,
        settling: Settling,
        *,
        has_streams: bool,
        on_frame: Callable[[Ticket], None],
    ) -> None:
        self._book = book
        self._inferers = inferers
        self._grouping = grouping
        self._settling = settling
        self._has_streams = has_streams
        self._on_frame = on_frame

    def give_out(self) -> None:
        """Hand to the processes what they have room for."""
        for group, inferer in self._inferers.dispatch():
            for picture in group.pictures:
                if (owner := self._book.get(picture.ticket)) is not None:
                    owner.inferer = inferer

    def hear(self, connection: Connection) -> None:
        """Take the next answer of a process, or its death."""
        try:
            answer = self._inferers.receive(connection)
        except EOFError:
            self._retry(*self._inferers.bury(connection))
            return
        if answer is not None:
            self._take_rows(*answer)

    def end_overdue(self) -> None:
        """End the processes that take too long, and begin anew what they had."""
        for reason, inferer, lost in self._inferers.overdue():
            self._retry(reason, inferer, lost)

    def _take_rows(self, group: Group, answer: Inferred) -> None:
        for picture, outcome in zip(group.pictures, answer.outcomes, strict=True):
            ticket = self._book.free_picture(group, picture)
            if ticket is None or ticket.is_closed:
                continue
            if isinstance(outcome, str):
                self._settling.fail(ticket, "infer", f"{ticket.item.name}: {outcome}")
                continue
            self._book.take_row(ticket, picture.frame_index, outcome)
            if ticket.item.kind == "video":
                self._on_frame(ticket)
        for number in {picture.ticket for picture in group.pictures}:
            owner = self._book.get(number)
            if owner is not None and not owner.is_closed:
                self._grouping.form(owner)
                self._settling.complete(owner)

    def _retry(self, reason: str, inferer: int, groups: Iterable[Group]) -> None:
        """Begin anew what a lost inference process had."""
        groups = list(groups)
        if self._has_streams:
            struck = {picture.ticket for group in groups if group.sent_s for picture in group.pictures}
            for group in groups:
                for picture in group.pictures:
                    self._book.free_picture(group, picture)
            # Every stream of that process has lost its tracker.
            for owner in self._book.streams_of(inferer):
                owner.infer_strikes += owner.number in struck
                if owner.number in struck and owner.infer_strikes >= TRIES:
                    self._blame(owner, reason)
                else:
                    self._settling.restart(owner)
            return
        for number in dict.fromkeys(picture.ticket for group in groups for picture in group.pictures):
            ticket = self._book.get(number)
            if ticket is not None and not ticket.is_closed:
                ticket.infer_strikes += 1
        for group in groups:
            self._send_again(group, reason)

    def _send_again(self, group: Group, reason: str) -> None:
        """Have a lost batch computed anew: alone, the second time picture by picture.

        The first time it may have been chance, and its rows should be those that they would have been without.
        """
        owners = {picture.ticket: self._book.open_owner(group, picture) for picture in group.pictures}
        strikes = max((owner.infer_strikes for owner in owners.values() if owner is not None), default=0)
        if strikes >= TRIES and len(owners) == 1:
            for owner in owners.values():
                if owner is not None:
                    self._blame(owner, reason)
            owners = dict.fromkeys(owners)
        kept = []
        for picture in group.pictures:
            if owners[picture.ticket] is None:
                self._book.drop_picture(picture.offset)
            else:
                kept.append(picture)
        for pictures in [(picture,) for picture in kept] if strikes >= TRIES else [tuple(kept)]:
            if pictures:
                self._grouping.send(self._book[pictures[0].ticket], pictures)

    def _blame(self, ticket: Ticket, reason: str) -> None:
        times = {2: "twice"}.get(ticket.infer_strikes, f"{ticket.infer_strikes} times")
        self._settling.fail(
            ticket, "infer", f"{ticket.item.name}: the inference process died of it ({reason}), {times}"
        )
