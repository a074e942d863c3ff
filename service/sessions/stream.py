"""A session's WebSocket: pictures in, answers out in the same order, as many at a time as there is credit.

Three tasks share one socket. The reader takes messages as they come and never waits for inference; the writer sends
one answer after the other; a watcher ends both when the session, the server or a newer socket says so. What can pile up
is bounded by the credit: a frame gives its credit back when its answer has been sent, so a client that does not read
cannot send either.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ServiceError, UnavailableError
from service.sessions.frames import FrameTicket, Place
from service.sessions.messages import FrameHeader, error_message, read_header, ready_message, result_message
from service.sessions.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.websockets import WebSocket

log = logging.getLogger(__name__)

POLICY, TOO_LARGE, GOING_AWAY, INTERNAL = 1008, 1009, 1001, 1011
SESSION_GONE, REPLACED = 4404, 4409
SEND_TIMEOUT_S = 20.0
CLOSE_TIMEOUT_S = 2.0
DRAIN_S = 5.0
"""Time for frames on their way when the server goes down."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that was not taken in, and why; answered in its turn."""

    error: Exception
    sequence: int | None


class _Close(Exception):  # noqa: N818 - not an error: how a task says that the socket should be closed
    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameStream:
    """One accepted WebSocket of a session; the newest one of a session is the one that counts.

    Args:
        websocket: accepted, and allowed to be here.
        session: whose frames come.
        draining: set when the server is going down.
        max_bytes: largest picture.
        enter: gives a picture of so many bytes its place in the server's queue, or raises QueueFullError.
        count_frame: counts a frame as a request of its sender, or raises RateLimitedError.
        send_timeout_s: how long a client may take to read one answer.
    """

    def __init__(
        self,
        websocket: WebSocket,
        session: Session,
        *,
        draining: asyncio.Event,
        max_bytes: int,
        enter: Callable[[int], Place] | None = None,
        count_frame: Callable[[], None] | None = None,
        send_timeout_s: float = SEND_TIMEOUT_S,
    ) -> None:
        self._websocket = websocket
        self._session = session
        self._draining = draining
        self._max_bytes = max_bytes
        self._enter = enter
        self._count_frame = count_frame
        self._send_timeout_s = send_timeout_s
        self._replaced = asyncio.Event()
        self._unanswered = 0
        self._outbox: asyncio.Queue[FrameTicket | Refusal] = asyncio.Queue()
        self._tickets: set[FrameTicket] = set()

    def replace(self) -> None:
        """Give way to a newer socket of the session; frames that have not begun will not."""
        self._replaced.set()
        self._drop_frames()

    async def run(self) -> None:
        """Serve the socket until either side ends it; the session lives on."""
        older, self._session.stream = self._session.stream, self
        if older is not None:
            older.replace()
        tasks: list[asyncio.Task[None]] = []
        try:
            # A frame of an older socket that has begun still counts: its number is taken.
            await self._session.settle()
            await self._send(ready_message(self._session))
            tasks = [asyncio.create_task(step()) for step in (self._read, self._write, self._watch)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            close = _first_close(tasks)
        except _Close as exc:
            close = exc
        except (RuntimeError, OSError):
            close = None  # the client was gone before it was greeted
        finally:
            await self._stop(tasks)
        if close is not None:
            await self._close(close)

    async def _stop(self, tasks: list[asyncio.Task[None]]) -> None:
        """End the tasks and let go of frames that have not begun: nobody would get their answers."""
        self._drop_frames()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session.stream is self:
            self._session.stream = None

    def _drop_frames(self) -> None:
        for ticket in self._tickets:
            ticket.drop()

    async def _close(self, close: _Close) -> None:
        # Whoever does not read does not answer the closing handshake either.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._websocket.close(close.code, close.reason)

    async def _read(self) -> None:
        """Take messages in until the client goes; the header of a text message is for the next picture."""
        header: FrameHeader | Exception | None = None
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect" or self._replaced.is_set():
                return
            picture, text = message.get("bytes"), message.get("text")
            if picture is None:
                header = read_header(text or "", pending=header)
                continue
            if len(picture) > self._max_bytes:
                raise _Close(TOO_LARGE, f"a picture must have at most {self._max_bytes} bytes")
            if self._unanswered >= self._session.work.credit:
                raise _Close(POLICY, f"no credit left: at most {self._session.work.credit} frames may be unanswered")
            self._unanswered += 1
            self._outbox.put_nowait(self._take(picture, header))
            header = None

    def _take(self, picture: bytes, header: FrameHeader | Exception | None) -> FrameTicket | Refusal:
        """Hand a picture to the session, or say why not."""
        sequence, timestamp_s = None, None
        if isinstance(header, FrameHeader):
            sequence, timestamp_s = header.sequence, header.timestamp_s
        try:
            if self._count_frame is not None:
                self._count_frame()
            if isinstance(header, Exception):
                return Refusal(header, None)
            if self._draining.is_set():
                raise UnavailableError("this server is going down; go on at another", code="draining")
            place = None if self._enter is None else self._enter(len(picture))
        except ServiceError as exc:
            return Refusal(exc, sequence)
        ticket = self._session.enqueue(picture, sequence=sequence, timestamp_s=timestamp_s, place=place)
        self._tickets.add(ticket)
        return ticket

    async def _write(self) -> None:
        """Send each answer in the order of its frame."""
        while True:
            item = await self._outbox.get()
            if isinstance(item, Refusal):
                message = error_message(item.error, item.sequence)
            else:
                message = await self._answer(item)
            await self._send(message)
            self._unanswered -= 1

    async def _answer(self, ticket: FrameTicket) -> bytes:
        assert ticket.answer is not None
        try:
            # Shielded: a frame that has begun is finished even if its socket closes.
            answer = await asyncio.shield(ticket.answer)
        except Exception as exc:
            error, sequence = exc, ticket.sequence
            return error_message(error, self._session.next_sequence if sequence is None else sequence)
        finally:
            self._tickets.discard(ticket)
        return result_message(answer)

    async def _send(self, message: bytes) -> None:
        try:
            # Not wait_for: until Python 3.12 it forgets that it was cancelled where what it waits for is done by then,
            # and a writer that goes on would keep its closed stream waiting for it.
            async with asyncio.timeout(self._send_timeout_s):
                await self._websocket.send_text(message.decode())
        except TimeoutError:
            raise _Close(POLICY, f"an answer was not read within {self._send_timeout_s:g} s") from None

    async def _watch(self) -> None:
        """Wait for a reason to close that is not the client's."""
        reasons = {
            self._replaced: _Close(REPLACED, "another connection of this session has taken over"),
            self._session.gone: _Close(SESSION_GONE, "the session is gone: it expired or was deleted"),
            self._draining: _Close(GOING_AWAY, "the server is going down"),
        }
        waits = {asyncio.create_task(event.wait()): event for event in reasons}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if self._draining.is_set() and not (self._replaced.is_set() or self._session.gone.is_set()):
                await self._answered()
            # The order of the table decides where several are set.
            raise next(close for event, close in reasons.items() if event.is_set())
        finally:
            for wait in waits:
                wait.cancel()

    async def _answered(self) -> None:
        """Return when all frames taken in are answered, or have had time enough to be."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while self._unanswered and loop.time() < deadline:
            await asyncio.sleep(0.02)


def _first_close(tasks: list[asyncio.Task[None]]) -> _Close | None:
    """Return how to close the socket after the first task has ended; None when the client has closed it."""
    for task in tasks:
        if not task.done() or task.cancelled() or (error := task.exception()) is None:
            continue
        if isinstance(error, _Close):
            return error
        if isinstance(error, RuntimeError | OSError):
            return None  # the connection broke while something was sent
        log.error("a session's socket failed", exc_info=error)
        return _Close(INTERNAL, "the server failed; its log has the reason")
    return None
