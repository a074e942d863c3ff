"""One tracking session: frames in order, one at a time, each processed once; a frame that fails leaves no trace.

Two turns make the order. A frame first takes the decoder's turn, and gives it up only when it has the pipeline's turn:
so the next frame is decoded while one is inferred, no frame overtakes another, and a session holds two decoded pictures
at most, however many wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from service.errors import CancelledWorkError, DeadlineError, InvalidParameterError, QueueFullError
from service.sessions.answer import Answer, encode_answer
from service.sessions.errors import SequenceConflictError, SessionNotFoundError
from service.sessions.frames import FrameTicket, FrameWork, Place
from service.stream_state import StreamState, check_size, put_state, take_state
from vision.types import Frame, ImageArray

if TYPE_CHECKING:
    from service.sessions.stream import FrameStream
    from service.stream_options import StreamOptions
    from vision.config import PipelineConfig
    from vision.pipeline import Pipeline

log = logging.getLogger(__name__)


class Session:
    """A client's stream on this server; all methods belong to the event loop, the pipeline runs in ``work.executor``.

    Args:
        session_id: what the client calls it by.
        key_id: whose it is.
        options: as they were resolved when the session was made.
        config: the settings that they add up to.
        pipeline: its own tracker and camera motion, and clients of the shared networks.
        work: what frames are advanced with.
        ttl_s: seconds without a frame after which it ends.
        created_at: seconds since 1970.
        next_sequence: lowest number of the next frame.
        last_timestamp_s: time of the last frame that had one.
    """

    def __init__(
        self,
        session_id: str,
        key_id: str,
        options: StreamOptions,
        config: PipelineConfig,
        pipeline: Pipeline,
        work: FrameWork,
        *,
        ttl_s: float,
        created_at: float,
        next_sequence: int = 0,
        last_timestamp_s: float | None = None,
    ) -> None:
        self.session_id = session_id
        self.key_id = key_id
        self.options = options
        self.config = config
        self.pipeline = pipeline
        self.work = work
        self.ttl_s = ttl_s
        self.created_at = created_at
        self.next_sequence = next_sequence
        self.last_timestamp_s = last_timestamp_s
        self.class_names = tuple(pipeline.object_names)
        self.frames = 0
        self.gone = asyncio.Event()
        self.gone_reason = ""
        self.renewed_at = time.monotonic()
        self.stream: FrameStream | None = None
        self._last: Answer | None = None
        self._waiting = 0
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._decoder_turn = asyncio.Lock()
        self._pipeline_turn = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Frames that were taken in and are not answered yet."""
        return self._waiting

    def remaining_s(self, now: float) -> float:
        """Return the seconds until the session ends at ``time.monotonic() == now``; frames on their way keep it."""
        return self.ttl_s if self._waiting else self.renewed_at + self.ttl_s - now

    def renew(self) -> None:
        """Begin the time-to-live anew."""
        self.renewed_at = time.monotonic()

    def check_room(self) -> None:
        """Raise QueueFullError when as many frames wait as may."""
        if self._waiting >= self.work.credit:
            raise QueueFullError(
                f"at most {self.work.credit} frames of a session may wait, {self._waiting} do; wait for an answer "
                "before sending more, or use the WebSocket, which says how many may be sent"
            )

    async def submit(
        self, picture: bytes, *, sequence: int | None, timestamp_s: float | None, place: Place | None = None
    ) -> Answer:
        """Return the answer to a frame, waiting for its turn.

        The frame is processed once even when the caller is cancelled meanwhile; sent again, it gets the same answer.

        Raises:
            QueueFullError: as many frames as may wait already do.
            SequenceConflictError, InvalidParameterError: a number or a time that does not rise.
            DeadlineError: not answered in time. Others: the picture cannot be decoded, or inference failed. The session
                is then as before.
        """
        try:
            self.check_room()
        except QueueFullError:
            if place is not None:
                place.release()
            raise
        ticket = self.enqueue(picture, sequence=sequence, timestamp_s=timestamp_s, place=place)
        assert ticket.answer is not None
        done, _ = await asyncio.wait({ticket.answer}, timeout=self.work.timeout_s)
        if done:
            return ticket.answer.result()
        if not ticket.began:
            ticket.drop()
            raise DeadlineError(
                f"a frame must begin within {self.work.timeout_s:g} s, it did not and was dropped; send it again, or "
                "send fewer frames a second"
            )
        raise DeadlineError(
            f"a frame must be answered within {self.work.timeout_s:g} s, it is still being processed; send it again "
            "with the same sequence to get its answer"
        )

    def enqueue(
        self, picture: bytes, *, sequence: int | None, timestamp_s: float | None, place: Place | None = None
    ) -> FrameTicket:
        """Take a frame in and return its ticket at once; the caller keeps count of how many of its own wait."""
        loop = asyncio.get_running_loop()
        ticket = FrameTicket(picture, sequence, timestamp_s, loop.time() + self.work.timeout_s, place)
        self._waiting += 1
        self.renew()
        task = loop.create_task(self._advance(ticket), name=f"frame of {self.session_id}")
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        ticket.answer = task
        return ticket

    def _settled(self, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        # Looked at, or asyncio complains of an error that nobody waited for.
        if not task.cancelled():
            task.exception()

    async def _advance(self, ticket: FrameTicket) -> Answer:
        """Bring one frame through both turns."""
        try:
            await self._decoder_turn.acquire()
            try:
                decoded, decode_ms = await self._decode(ticket)
                await self._pipeline_turn.acquire()
            finally:
                self._decoder_turn.release()
            try:
                return await self._step(ticket, decoded, decode_ms)
            finally:
                self._pipeline_turn.release()
        finally:
            self._waiting -= 1
            self.renew()
            if ticket.place is not None:
                ticket.place.release()

    async def _decode(self, ticket: FrameTicket) -> tuple[ImageArray | Exception | None, float]:
        """Return the picture or what is wrong with it, and milliseconds; None when it will not be needed."""
        began = time.perf_counter()
        is_replay = self._last is not None and ticket.sequence == self._last.sequence
        decoded: ImageArray | Exception | None = None
        if not (is_replay or self._unwanted(ticket)):
            try:
                decoded = await self.work.decode(ticket.picture, ticket.place)
            except Exception as exc:
                # Raised in the frame's turn: only then is it known whether it is the last frame once more.
                decoded = exc
        ticket.picture = b""
        return decoded, (time.perf_counter() - began) * 1000

    async def _step(self, ticket: FrameTicket, decoded: ImageArray | Exception | None, decode_ms: float) -> Answer:
        """Answer the frame whose turn it is; afterwards the session has advanced by it, or is as it was."""
        if (unwanted := self._unwanted(ticket)) is not None:
            raise unwanted
        sequence = self.next_sequence if ticket.sequence is None else ticket.sequence
        if self._last is not None and sequence == self._last.sequence:
            return replace(self._last, replayed=True)
        if sequence < self.next_sequence:
            raise SequenceConflictError(sequence, self.next_sequence, has_last=self._last is not None)
        self._check_time(ticket.timestamp_s)
        if isinstance(decoded, Exception):
            raise decoded
        if decoded is None:
            raise CancelledWorkError("the frame was dropped before it was decoded")
        ticket.began = True
        frame = Frame(decoded, sequence, ticket.timestamp_s)
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self.work.executor, self._process, frame, decode_ms)
        self._last = Answer(sequence, body)
        self.next_sequence = sequence + 1
        self.frames += 1
        if ticket.timestamp_s is not None:
            self.last_timestamp_s = ticket.timestamp_s
        return self._last

    def _process(self, frame: Frame, decode_ms: float) -> bytes:
        """Return the frame's answer; in a thread. Whatever fails, tracker and camera are put back."""
        before = take_state(self.pipeline)
        check_size(before)
        self.work.budget.book(self.session_id, before.nbytes)
        try:
            result = self.pipeline.process(frame)
            return encode_answer(self.session_id, result, self.class_names, decode_ms=decode_ms)
        except BaseException:
            put_state(self.pipeline, before)
            raise

    def _check_time(self, timestamp_s: float | None) -> None:
        if timestamp_s is not None and self.last_timestamp_s is not None and timestamp_s <= self.last_timestamp_s:
            raise InvalidParameterError(
                f"timestamp_s must be above {self.last_timestamp_s}, the last one, got {timestamp_s}; send frames in "
                "order, or leave the time out"
            )

    def _unwanted(self, ticket: FrameTicket) -> Exception | None:
        """Return why a frame that has not begun will not begin, or None."""
        if self.gone.is_set():
            return SessionNotFoundError(self.gone_reason)
        if ticket.dropped:
            return CancelledWorkError("the frame was dropped: whoever sent it is gone")
        if asyncio.get_running_loop().time() > ticket.expires_at:
            return DeadlineError(
                f"a frame must begin within {self.work.timeout_s:g} s, it did not and was dropped; send it again, or "
                "send fewer frames a second"
            )
        return None

    async def settle(self) -> None:
        """Return when the frame that is being inferred now, if any, is done: ``next_sequence`` then holds."""
        async with self._pipeline_turn:
            pass

    async def state(self) -> tuple[StreamState, int, float | None]:
        """Return what the stream remembers between two frames, the next sequence and the last timestamp."""
        async with self._pipeline_turn:
            if self.gone.is_set():
                raise SessionNotFoundError(self.gone_reason)
            loop = asyncio.get_running_loop()
            state = await loop.run_in_executor(self.work.executor, take_state, self.pipeline)
            return state, self.next_sequence, self.last_timestamp_s

    def end(self, reason: str) -> None:
        """Refuse further frames, saying why; those that have not begun are dropped."""
        if not self.gone.is_set():
            self.gone_reason = reason
            self.gone.set()

    async def close(self) -> None:
        """Let go of networks and tracks after the frame that is being inferred; ``end`` comes first."""
        async with self._pipeline_turn:
            self.pipeline.close()
            self.work.budget.forget(self.session_id)
            self._last = None
