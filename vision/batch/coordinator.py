"""One run on one machine, seen from the thread that gives out the work and takes the results; it touches no pixel.

What it holds is bounded at every stage: pictures by the shared memory, rows by their number, orders by the workers. So
a slow disk stops the inference, and slow inference stops the decoding.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from vision.batch.arena import Arena
from vision.batch.config import RunOptions
from vision.batch.decoders import Decoders
from vision.batch.facts import CoreFacts
from vision.batch.fetchers import Fetchers
from vision.batch.grouping import Grouping
from vision.batch.health import Health
from vision.batch.inferers import Inferers
from vision.batch.items import Shard
from vision.batch.messages import Decoded, Finished, Inferred, Need, Placed
from vision.batch.settling import Settling
from vision.batch.ticket_book import TicketBook
from vision.batch.tickets import Group, Ticket
from vision.batch.writing import ShardWriting
from vision.io.images import DEFAULT_LIMITS

if TYPE_CHECKING:
    from vision.batch.shard_file import ShardWriter
    from vision.batch.shard_summary import ShardSummary

# Rows that may wait for the disk, or for an earlier item of their shard.
_MAX_HELD_ROWS = 50_000
# Room for a picture of unknown size; one that needs more asks for it.
_FIRST_ROOM = 1 << 20
# Processes that an item may cost before it is given up.
_TRIES = 2
_PERIOD_S = 0.5


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
        self._facts = facts
        self._options = options
        self._arena = arena
        self._decoders = decoders
        self._inferers = inferers
        self._budget = options.max_waiting_mb * 1_000_000
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self.writing = ShardWriting(open_writer, self._wake)
        self.fetchers = Fetchers(
            options.fetchers,
            folder=folder,
            max_bytes=DEFAULT_LIMITS.max_bytes,
            timeout_s=options.item_timeout_s,
            on_change=self._wake,
        )
        self._numbers = numbers
        self._to_decode: deque[Ticket] = deque()
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
            has_streams=facts.task == "track",
        )
        self._sizes: deque[int] = deque([_FIRST_ROOM], maxlen=64)
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
            ready = wait([self._woken, *self._decoders.connections, *self._inferers.connections], _PERIOD_S)
            for connection in ready:
                if connection is self._woken:
                    self._woken.recv(4096)
                elif connection in self._inferers.connections:
                    self._hear_inferer(connection)
                elif connection in self._decoders.connections:
                    self._hear_decoder(connection)
            self._take_fetched()
            self._end_overdue()
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
        self._woken.close()
        self._waker.close()

    # Giving out

    def _work(self, shards: Iterable[Shard]) -> Iterator[Ticket]:
        for shard in shards:
            self._settling.expect(shard)
            self._grouping.expect(shard)
            for position, item in enumerate(shard.items):
                yield Ticket(next(self._numbers), item, shard, position)

    def _give_out(self) -> None:
        """Hand out all that there is room for."""
        for group, inferer in self._inferers.dispatch():
            for picture in group.pictures:
                if (owner := self._book.get(picture.ticket)) is not None:
                    owner.inferer = inferer
        self._hand_to_decoders()
        while (upcoming := self._upcoming()) is not None and self._may_admit(upcoming):
            if self._settling.again:
                self._settling.again.popleft()
            else:
                self._next = next(self._todo, None)
            self._book.enter(upcoming)
            if upcoming.item.is_remote:
                self.fetchers.submit(upcoming.number, upcoming.item)
            else:
                self._to_decode.append(upcoming)
                self._hand_to_decoders()

    def _upcoming(self) -> Ticket | None:
        return self._settling.again[0] if self._settling.again else self._next

    def _hand_to_decoders(self) -> None:
        while self._to_decode and self._decoders.has_room:
            ticket = self._to_decode.popleft()
            if not ticket.is_closed:
                grants = () if ticket.item.kind == "video" else (self._book.grant(ticket, max(self._sizes)),)
                ticket.is_at_decoder = True
                self._decoders.give(ticket, grants)

    def _may_admit(self, upcoming: Ticket) -> bool:
        """Return whether another item may be begun without holding more than is good."""
        if upcoming.item.is_remote:
            has_room = self.fetchers.under_way + len(self._to_decode) < self.fetchers.threads + self._decoders.count
        else:
            has_room = not self._to_decode and self._decoders.has_room
        if not has_room or self._book.held_rows + self.writing.waiting > _MAX_HELD_ROWS:
            return False
        # A batch may wait for a neighbour that was not begun: then memory must not keep that one from coming.
        return self._arena.in_use < self._budget or self._inferers.is_starved

    def _grant_frames(self, ticket: Ticket) -> None:
        """Give a video's decoder room for as many frames as may be on their way."""
        batch = self._facts.batch
        if ticket.is_closed or ticket.is_decoded or not ticket.frame_size:
            return
        most = max(batch, min(2 * batch + 2, self._budget // (ticket.frame_size * self._decoders.count)))
        while self._frames_out(ticket) < most:
            self._decoders.grant(ticket, self._book.grant(ticket, ticket.frame_size))

    def _frames_out(self, ticket: Ticket) -> int:
        return len(ticket.grants) + ticket.decoded - len(ticket.rows)

    # Decoding

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
                self._to_decode.append(ticket)

    def _hear_decoder(self, connection: Connection) -> None:
        try:
            message = self._decoders.receive(connection)
        except EOFError:
            reason, guilty, others = self._decoders.bury(connection)
            self._retry_decoding(guilty, others, f"the decoder died of it ({reason})")
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
                self._finish_decoding(ticket, message)

    def _make_room(self, ticket: Ticket, size: int) -> None:
        if ticket.item.kind == "image":
            self._decoders.grant(ticket, self._book.grant(ticket, size))
            return
        self._book.withdraw_smaller(ticket, size)
        ticket.frame_size = size
        self._grant_frames(ticket)

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

    def _finish_decoding(self, ticket: Ticket, message: Finished) -> None:
        ticket.is_at_decoder, ticket.is_decoded, ticket.note = False, True, message.error
        self._book.free_decoding(ticket)
        if ticket.is_closed:
            self._book.discard(ticket)
        elif message.error is not None and not ticket.decoded:
            self._settling.fail(ticket, "decode", message.error)
        else:
            self._grouping.form(ticket)
            self._settling.complete(ticket)

    def _retry_decoding(self, guilty: Ticket | None, others: Iterable[Ticket], reason: str) -> None:
        """Begin anew what a lost decoder had; what it worked on has a strike more."""
        for ticket in others:
            ticket.is_at_decoder = False
            self._settling.restart(ticket)
        if guilty is None:
            return
        if guilty.item.kind == "image" and guilty.decoded:
            # It died with the picture delivered and only that not said.
            self._finish_decoding(guilty, Finished(guilty.number, None, 0.0))
            return
        guilty.decode_strikes += 1
        guilty.is_at_decoder = False
        if guilty.is_closed or guilty.decode_strikes < _TRIES:
            self._settling.restart(guilty)
        else:
            self._settling.fail(
                guilty, "decode", f"{guilty.item.name}: {reason}, twice; look at it with another program"
            )

    # Inference

    def _hear_inferer(self, connection: Connection) -> None:
        try:
            answer = self._inferers.receive(connection)
        except EOFError:
            self._retry_inference(*self._inferers.bury(connection))
            return
        if answer is not None:
            self._take_rows(*answer)

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
                self._grant_frames(ticket)
        for number in {picture.ticket for picture in group.pictures}:
            owner = self._book.get(number)
            if owner is not None and not owner.is_closed:
                self._grouping.form(owner)
                self._settling.complete(owner)

    def _retry_inference(self, reason: str, inferer: int, groups: Iterable[Group]) -> None:
        """Begin anew what a lost inference process had."""
        groups = list(groups)
        if self._facts.task == "track":
            struck = {picture.ticket for group in groups if group.sent_s for picture in group.pictures}
            for group in groups:
                for picture in group.pictures:
                    self._book.free_picture(group, picture)
            # Every stream of that process has lost its tracker.
            for owner in self._book.streams_of(inferer):
                owner.infer_strikes += owner.number in struck
                if owner.number in struck and owner.infer_strikes >= _TRIES:
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
        if strikes >= _TRIES and len(owners) == 1:
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
        for pictures in [(picture,) for picture in kept] if strikes >= _TRIES else [tuple(kept)]:
            if pictures:
                self._grouping.send(self._book[pictures[0].ticket], pictures)

    def _blame(self, ticket: Ticket, reason: str) -> None:
        times = {2: "twice"}.get(ticket.infer_strikes, f"{ticket.infer_strikes} times")
        self._settling.fail(
            ticket, "infer", f"{ticket.item.name}: the inference process died of it ({reason}), {times}"
        )

    # Settling

    def _end_overdue(self) -> None:
        for guilty, others in self._decoders.overdue():
            limit = f"nothing came of it within {self._options.item_timeout_s:g} s"
            self._retry_decoding(guilty, others, limit)
        for reason, inferer, lost in self._inferers.overdue():
            self._retry_inference(reason, inferer, lost)

    def _wake(self) -> None:
        # A full socket wakes as well, and a closed one has nobody to wake.
        with suppress(OSError):
            self._waker.send(b"1")
