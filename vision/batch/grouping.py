"""Decoded pictures to batches: pictures by their places in the shard, frames of a video by their order."""

from __future__ import annotations

from collections.abc import Iterator

from vision.batch.facts import CoreFacts
from vision.batch.inferers import Inferers
from vision.batch.items import Shard
from vision.batch.messages import Placed
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import Group, PictureBatch, Ticket


class Grouping:
    """Forms the batches of a run and hands them to the inference processes.

    Args:
        book: tickets by number. inferers: who computes. facts: the size of a batch, and whether streams have state.
        numbers: never the same twice.
    """

    def __init__(self, book: TicketBook, inferers: Inferers, facts: CoreFacts, numbers: Iterator[int]) -> None:
        self._book = book
        self._inferers = inferers
        self._size = facts.batch
        self._is_stream = facts.task == "track"
        self._numbers = numbers
        self._batches: dict[tuple[int, int], PictureBatch] = {}

    def expect(self, shard: Shard) -> None:
        """Say which pictures of a shard belong together, before any of them comes."""
        for start in range(0, len(shard.items), self._size):
            neighbours = enumerate(shard.items[start : start + self._size], start)
            pictures = [place for place, item in neighbours if item.kind == "image"]
            if pictures:
                self._batches[shard.index, start // self._size] = PictureBatch(pictures)

    def add(self, ticket: Ticket, picture: Placed) -> None:
        """Take a decoded picture."""
        if ticket.item.kind == "image":
            batch = self._batches[self._key(ticket)]
            batch.add(ticket.position, picture)
            self._send_settled(self._key(ticket))
        else:
            ticket.waiting.append(picture)
            self.form(ticket)

    def give_up(self, ticket: Ticket) -> None:
        """Wait no longer for a picture that will not come; none of that kind is as good."""
        key = self._key(ticket)
        if ticket.item.kind == "image" and not ticket.decoded and key in self._batches:
            self._batches[key].drop(ticket.position)
            self._send_settled(key)

    def form(self, ticket: Ticket) -> None:
        """Make batches of a video's frames; those of a stream with state are computed one after the other."""
        while len(ticket.waiting) >= self._size or (ticket.is_decoded and ticket.waiting):
            if self._is_stream and ticket.groups:
                return
            pictures, ticket.waiting = tuple(ticket.waiting[: self._size]), ticket.waiting[self._size :]
            self.send(ticket, pictures)

    def send(self, ticket: Ticket, pictures: tuple[Placed, ...]) -> None:
        """Have pictures computed as one batch in the place of ``ticket``."""
        owners = [self._book[picture.ticket] for picture in pictures]
        group = Group(
            next(self._numbers),
            (*ticket.order, pictures[0].frame_index),
            pictures,
            is_suspect=any(owner.infer_strikes for owner in owners),
            inferer=ticket.inferer if self._is_stream else None,
        )
        for owner in owners:
            owner.groups.add(group.number)
        self._inferers.add(group)

    def _key(self, ticket: Ticket) -> tuple[int, int]:
        return ticket.shard.index, ticket.position // self._size

    def _send_settled(self, key: tuple[int, int]) -> None:
        batch = self._batches[key]
        if not batch.is_settled:
            return
        del self._batches[key]
        pictures = batch.take()
        if pictures:
            self.send(self._book[pictures[0].ticket], pictures)
