"""The decoder processes of a run: who works on what, how long already, and what it means when one dies."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from vision.batch.messages import Begun, Cancel, Decode, Decoded, Finished, Grant, Need
from vision.batch.tickets import Ticket
from vision.batch.worker_process import WorkerProcess

# The one that is decoded and the one that comes next, so that no decoder waits for an order.
_DEPTH = 2
_ENVIRONMENT = {
    # One thread each: there are as many decoders as there should be threads.
    "OPENCV_FOR_THREADS_NUM": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Memory of one picture serves for the next. By default glibc gives it back to the system and takes it again, which
    # costs as much as a third of the decoding of a small JPEG.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}


@dataclass(slots=True, eq=False)
class _Decoder:
    process: WorkerProcess
    tickets: deque[Ticket] = field(default_factory=deque)
    is_begun: bool = False
    # When the decoder was last seen to get on; None while it has nothing to do but wait for us.
    since_s: float | None = None

    @property
    def has_room(self) -> bool:
        """Whether another ticket would not wait long: behind a video it might wait for hours."""
        return len(self.tickets) < _DEPTH and all(ticket.item.kind == "image" for ticket in self.tickets)


class Decoders:
    """The decoder processes.

    Args:
        count: how many. arena_fd: of the shared memory. max_pixels: largest picture.
        timeout_s: longest time without a picture of one that works on a ticket.
    """

    def __init__(self, count: int, *, arena_fd: int, max_pixels: int, timeout_s: float) -> None:
        self.busy_s = 0.0
        self._arena_fd = arena_fd
        self._max_pixels = max_pixels
        self._timeout_s = timeout_s
        self._decoders: list[_Decoder] = []
        self.grow(count)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._decoders)

    def grow(self, count: int) -> None:
        """Start processes until there are so many."""
        while self.count < count:
            self._decoders.append(_Decoder(self._spawn()))

    @property
    def connections(self) -> list[Connection]:
        """What to wait for."""
        return [decoder.process.connection for decoder in self._decoders]

    @property
    def pids(self) -> list[int]:
        """The processes' numbers."""
        return [decoder.process.pid for decoder in self._decoders]

    @property
    def has_room(self) -> bool:
        """Whether a ticket would be taken."""
        return any(decoder.has_room for decoder in self._decoders)

    def give(self, ticket: Ticket, grants: tuple[Grant, ...]) -> None:
        """Have a ticket decoded by the process with the least to do; ``has_room`` must hold."""
        decoder = min((each for each in self._decoders if each.has_room), key=lambda each: len(each.tickets))
        decoder.tickets.append(ticket)
        decoder.process.send(Decode(ticket.number, ticket.item, grants, ticket.data, ticket.path))

    def grant(self, ticket: Ticket, grant: Grant) -> None:
        """Give the decoder of a ticket room for a picture more."""
        decoder = self._decoder_of(ticket)
        if decoder is not None:
            decoder.process.send(grant)
            if decoder.is_begun and decoder.tickets[0] is ticket:
                decoder.since_s = time.monotonic()

    def cancel(self, ticket: Ticket) -> None:
        """Tell the decoder of a ticket, if it has one, that nobody wants more of it."""
        decoder = self._decoder_of(ticket)
        if decoder is not None:
            decoder.process.send(Cancel(ticket.number))
            decoder.since_s = time.monotonic()

    def receive(self, connection: Connection) -> Decoded | Need | Finished | None:
        """Return the next message that concerns the coordinator; raises EOFError for a process that has died."""
        decoder = self._owner(connection)
        try:
            message = connection.recv()
        except OSError as exc:
            raise EOFError from exc
        decoder.since_s = time.monotonic()
        match message:
            case Begun():
                decoder.is_begun = True
                return None
            case Finished():
                self.busy_s += message.seconds
                decoder.tickets.popleft()
                decoder.is_begun = message.begun is not None
                if not decoder.is_begun:
                    decoder.since_s = None
                return message
            case Need():
                decoder.since_s = None
        assert isinstance(message, Decoded | Need)
        return message

    def bury(self, connection: Connection) -> tuple[str, Ticket | None, list[Ticket]]:
        """Put a new process in the place of one that has died.

        Returns:
            how it died; the ticket it was working on, if any; the tickets it had not begun.
        """
        decoder = self._owner(connection)
        reason = decoder.process.death()
        return reason, *self._replace(decoder)

    def overdue(self) -> list[tuple[Ticket, list[Ticket]]]:
        """End the processes that get nowhere; return what each worked on, and what it had not begun."""
        now = time.monotonic()
        late = [each for each in self._decoders if each.since_s is not None and now - each.since_s > self._timeout_s]
        buried = []
        for decoder in late:
            guilty, others = self._replace(decoder)
            if guilty is not None:
                buried.append((guilty, others))
        return buried

    def close(self) -> None:
        """End all processes."""
        for decoder in self._decoders:
            decoder.process.kill()

    def _replace(self, decoder: _Decoder) -> tuple[Ticket | None, list[Ticket]]:
        decoder.process.kill()
        tickets = list(decoder.tickets)
        guilty = tickets.pop(0) if decoder.is_begun and tickets else None
        self._decoders[self._decoders.index(decoder)] = _Decoder(self._spawn())
        return guilty, tickets

    def _spawn(self) -> WorkerProcess:
        arguments = [str(self._arena_fd), str(self._max_pixels), str(self._timeout_s)]
        return WorkerProcess("vision.batch.decode_worker", arguments, [self._arena_fd], _ENVIRONMENT)

    def _owner(self, connection: Connection) -> _Decoder:
        return next(decoder for decoder in self._decoders if decoder.process.connection is connection)

    def _decoder_of(self, ticket: Ticket) -> _Decoder | None:
        return next((decoder for decoder in self._decoders if ticket in decoder.tickets), None)
