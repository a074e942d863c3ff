"""One frame on its way through a session: what came in, and whether anybody still waits for its answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from service.errors import SessionTooLargeError
from service.sessions.answer import Answer
from vision.io.images import ImageLimits, decode_image
from vision.types import ImageArray


class Place(Protocol):
    """Room in the server's queue that a frame holds until it is answered."""

    def grow(self, n_bytes: int) -> None:
        """Add bytes; raises QueueFullError where there is no room for them."""

    def borrow(self, n_bytes: int) -> None:
        """Add bytes that only decoding needs, or give them back (below zero); raises as ``grow``."""

    def release(self) -> None:
        """Give everything back; a second call does nothing."""


Decode = Callable[[bytes, Place | None], Awaitable[ImageArray]]
"""Encoded picture -> uint8 [H, W, 3] RGB; raises MediaError and LimitExceededError."""


def pool_decoder(pool: Executor, limits: ImageLimits) -> Decode:
    """Return what decodes pictures in the threads of ``pool``, booking their size on their place first."""

    async def decode(data: bytes, place: Place | None) -> ImageArray:
        step = partial(decode_image, data, limits=limits, source="the picture")
        if place is not None:
            step = partial(step, reserve=place.grow, borrow=place.borrow)
        return await asyncio.get_running_loop().run_in_executor(pool, step)

    return decode


class StateBudget:
    """The memory that the trackers of all sessions may hold together; asked from the sessions' threads.

    Args:
        max_bytes: of all sessions.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._held: dict[str, int] = {}
        self._total = 0
        self._lock = threading.Lock()

    def book(self, session_id: str, n_bytes: int) -> None:
        """Note what a session holds.

        Raises:
            SessionTooLargeError: all together hold too much, and this one more than its share.
        """
        with self._lock:
            self._total += n_bytes - self._held.get(session_id, 0)
            self._held[session_id] = n_bytes
            share = self.max_bytes // len(self._held)
            if self._total > self.max_bytes and n_bytes > share:
                raise SessionTooLargeError(
                    f"the tracks of all sessions must fit {self.max_bytes >> 20} MiB, and this one holds "
                    f"{n_bytes >> 20} of them, more than its share; delete it and make one with a lower "
                    "tracking.max_age or tracking.gallery_size, or a higher conf"
                )

    def forget(self, session_id: str) -> None:
        """Give back what an ended session held."""
        with self._lock:
            self._total -= self._held.pop(session_id, 0)


@dataclass(frozen=True, slots=True)
class FrameWork:
    """What all sessions advance their frames with.

    Attributes:
        decode: decodes pictures in threads of its own.
        executor: threads in which pipelines run; as many frames as it has threads are inferred at a time.
        timeout_s: a frame that has not begun within this time is dropped.
        credit: frames of one sender that may wait in one session.
        budget: memory of all sessions' trackers.
    """

    decode: Decode
    executor: Executor
    timeout_s: float
    credit: int
    budget: StateBudget


@dataclass(slots=True, eq=False)
class FrameTicket:
    """A frame that was taken in; ``answer`` is settled once, whether or not anybody looks.

    Attributes:
        picture: the encoded picture; emptied when it has been decoded.
        sequence: its number, or None for the next one.
        timestamp_s: its time in seconds, or None.
        expires_at: when it is dropped if it has not begun, on the event loop's clock.
        place: its room in the server's queue, given back when it is settled.
        began: whether inference has begun; from then on it is finished in any case.
        dropped: whether nobody wants it any more.
    """

    picture: bytes
    sequence: int | None
    timestamp_s: float | None
    expires_at: float
    place: Place | None = None
    began: bool = False
    dropped: bool = False
    answer: asyncio.Future[Answer] | None = None

    def drop(self) -> None:
        """Say that nobody waits; a frame that has not begun will not begin."""
        self.dropped = True
