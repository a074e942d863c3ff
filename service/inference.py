"""From a picture's bytes to a model's answer: decode and prepare in a pool of threads, run in the model's batcher.

One hop to the pool, one to the device thread and one back to the event loop: the pool's thread hands its work to the
batcher itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from starlette.requests import Request

from service.batching import Batcher
from service.decode_pool import DecodePool
from service.errors import CancelledWorkError, DeadlineError, UnavailableError
from service.model_entry import LoadedModel, ModelEntry
from service.settings import Settings
from service.settling import settle_async
from service.work import Served, Work
from vision.io.images import ImageLimits, decode_image
from vision.runtime.cpus import available_cpus
from vision.types import Frame, ImageArray

# A client that went away is noticed for answers that take longer than this; sooner ones are not worth a task.
WATCH_AFTER_S = 0.05
# Threads that draw and write answers that take milliseconds.
ANSWER_THREADS = 2

Result = TypeVar("Result")


class Room(Protocol):
    """Where a decoded picture is booked; a request's ``Ticket``, or what stands before it."""

    def grow(self, n_bytes: int) -> None:
        """Add bytes; raises QueueFullError and LimitExceededError where there is no room for them."""

    def borrow(self, n_bytes: int) -> None:
        """Add bytes that only decoding needs, or give them back (below zero); raises QueueFullError."""


@dataclass(slots=True, eq=False)
class Answer:
    """A model's answer to one picture.

    Attributes:
        value: what the model says.
        size_hw: of the upright picture.
        frame: the picture, where it was asked to be kept.
        timings_ms: decode, queue, infer.
        batch: inputs of the batch in which it ran.
        class_names: of the model that ran, which may have been swapped for another since.
    """

    value: Any
    size_hw: tuple[int, int]
    frame: Frame | None
    timings_ms: dict[str, float]
    batch: int = 1
    class_names: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class _Question:
    """What travels to the pool and back for one picture."""

    body: bytes | memoryview | ImageArray
    options: Any
    ticket: Room
    deadline: float
    keep_frame: bool
    batcher: Batcher
    work: Work | None = None
    cancelled: bool = False
    size_hw: tuple[int, int] = (0, 0)
    frame: Frame | None = None
    decode_s: float = 0.0

    def cancel(self) -> None:
        """Drop it, wherever it is, and the memory it holds: its place in the queue is given back now."""
        self.cancelled = True
        self.body = b""
        if self.work is not None:
            self.batcher.cancel(self.work)


class ImageInference:
    """Asks models about pictures.

    Args:
        settings: limits and threads.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits = ImageLimits(max_pixels=settings.max_pixels, max_bytes=settings.max_body_bytes)
        threads = settings.decode_threads or max(2, available_cpus())
        # Answers do not wait behind the pictures of requests that came later.
        self.answer_pool = ThreadPoolExecutor(ANSWER_THREADS, thread_name_prefix="answer")
        self.pool = DecodePool(threads, "decode")

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown()
        self.answer_pool.shutdown(wait=True, cancel_futures=True)

    async def ask(
        self,
        entry: ModelEntry,
        body: bytes | memoryview | ImageArray,
        options: Any,
        *,
        ticket: Room,
        timeout_s: float,
        request: Request | None = None,
        keep_frame: bool = False,
    ) -> Answer:
        """Return the model's answer.

        Args:
            entry: the model.
            body: the encoded picture, or its pixels, uint8 [H, W, 3] RGB.
            options: of the request, as the model's ``prepare`` takes them.
            ticket: the request's place, on which the decoded picture is booked.
            timeout_s: until the answer.
            request: watched for a client that goes away; its body must be read.
            keep_frame: whether the picture is wanted with the answer.

        Raises:
            DeadlineError: no answer in time. CancelledWorkError: the client went away. UnavailableError: no model.
            VisionError: what decoding or the model raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Served] = loop.create_future()
        loaded = entry.acquire()
        question = _Question(body, options, ticket, time.monotonic() + timeout_s, keep_frame, loaded.batcher)
        del body  # the question lets it go when it is decoded
        settle = _settle_and_release(future, loop, loaded)
        try:
            # In the request's context: log lines of other threads name the request, too.
            self.pool.run(partial(contextvars.copy_context().run, self._prepare, loaded, entry, question, settle))
        except RuntimeError:  # the pool was shut down
            settle(None, UnavailableError("this server is going down and takes no new work", code="draining"))
        # Most answers are there before it runs, and cost one timer.
        patience = loop.call_later(min(timeout_s, WATCH_AFTER_S), _watch, future, timeout_s, request, loop)
        try:
            served = await future
        except BaseException:
            question.cancel()
            raise
        finally:
            patience.cancel()
        timings_ms = {
            "decode": round(question.decode_s * 1000, 3),
            "queue": round(served.queue_ms, 3),
            "infer": round(served.infer_ms, 3),
        }
        names = loaded.served.class_names
        return Answer(served.value, question.size_hw, question.frame, timings_ms, served.batch, names)

    async def write(self, work: Callable[[], Result], timeout_s: float) -> Result:
        """Return what ``work`` makes of an answer, in a thread for such work.

        Raises:
            DeadlineError: it was not done in time; what has not begun by then never does.
        """
        making = asyncio.get_running_loop().run_in_executor(self.answer_pool, work)
        try:
            return await asyncio.wait_for(making, max(0.0, timeout_s))
        except TimeoutError:
            raise DeadlineError(
                "the answer must be written in time, it was not; ask for less, for JSON, or wait longer"
            ) from None

    def _image(self, body: bytes | memoryview | ImageArray, ticket: Room) -> ImageArray:
        """Return the pixels of a picture, uint8 [H, W, 3]; raises MediaError, LimitExceededError, QueueFullError."""
        if isinstance(body, np.ndarray):
            self.limits.check_size((body.shape[1], body.shape[0]), "the image")
            return body
        return decode_image(
            bytes(body), limits=self.limits, source="the image", reserve=ticket.grow, borrow=ticket.borrow
        )

    def _prepare(self, loaded: LoadedModel, entry: ModelEntry, question: _Question, settle: Any) -> None:
        """Decode and prepare a picture and queue it; runs in the pool, and settles in every case."""
        try:
            began = time.monotonic()
            if question.cancelled:
                raise CancelledWorkError("the request was given up before its picture was decoded")
            if began >= question.deadline:
                entry.metrics.dropped("expired")
                raise DeadlineError("the answer was wanted before the picture was decoded; send less, or wait longer")
            image = self._image(question.body, question.ticket)
            question.body = b""
            frame = Frame(image)
            question.size_hw = frame.size_hw
            if question.keep_frame:
                question.frame = frame
            prepared = loaded.served.prepare(frame, question.options)
            question.decode_s = time.monotonic() - began
            entry.metrics.decoded(question.decode_s)
            question.work = loaded.batcher.submit(prepared, settle, timeout_s=question.deadline - time.monotonic())
            if question.cancelled:
                loaded.batcher.cancel(question.work)
        except BaseException as exc:
            loaded.batcher.notice(exc)
            settle(None, exc)


def _settle_and_release(
    future: asyncio.Future[Served], loop: asyncio.AbstractEventLoop, loaded: LoadedModel
) -> Callable[[Served | None, BaseException | None], None]:
    """Return what hands over an answer and gives the lease back: when the work is settled and not when the caller stops
    waiting, for the device may still be at it."""
    deliver = settle_async(future, loop)

    def settle(served: Served | None, error: BaseException | None) -> None:
        loaded.release()
        deliver(served, error)

    return settle


def _watch(
    future: asyncio.Future[Served], timeout_s: float, request: Request | None, loop: asyncio.AbstractEventLoop
) -> None:
    """Look after an answer that takes its time: end the wait at the deadline, or when the client has gone."""
    if future.done():
        return
    error = DeadlineError(f"the answer must be there within {timeout_s:g} s, it was not; send less, or wait longer")
    left_s = max(0.0, timeout_s - WATCH_AFTER_S)
    deadline = loop.call_later(left_s, _give_up, future, error)
    watch = None if request is None else loop.create_task(_notice_disconnect(request, future))

    def tidy(_: object) -> None:
        deadline.cancel()
        if watch is not None:
            watch.cancel()

    future.add_done_callback(tidy)


async def _notice_disconnect(request: Request, future: asyncio.Future[Served]) -> None:
    """End the wait when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    _give_up(future, CancelledWorkError("the client went away before its answer was there"))


def _give_up(future: asyncio.Future[Served], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
