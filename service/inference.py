"""From a picture's bytes to a model's answer: decode and prepare in a pool of threads, run in the model's batcher.

One hop to the pool, one to the device thread and one back to the event loop: the pool's thread hands its work to the
batcher itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request

from service.admission import Ticket
from service.batching import Served, Work, settle_async
from service.errors import CancelledWorkError, DeadlineError
from service.registry import LoadedModel, ModelEntry
from service.settings import Settings
from vision.errors import LimitExceededError
from vision.io.images import ImageLimits, decode_image
from vision.types import Frame, ImageArray

# A client that went away is noticed for answers that take longer than this; sooner ones are not worth a task.
WATCH_AFTER_S = 0.05


@dataclass(slots=True, eq=False)
class Answer:
    """A model's answer to one picture.

    Attributes:
        value: what the model says.
        size_hw: of the upright picture.
        frame: the picture, where it was asked to be kept.
        timings_ms: decode, queue, infer.
        batch: inputs of the batch in which it ran.
    """

    value: Any
    size_hw: tuple[int, int]
    frame: Frame | None
    timings_ms: dict[str, float]
    batch: int = 1


@dataclass(slots=True, eq=False)
class _Question:
    """What travels to the pool and back for one picture."""

    body: bytes | memoryview | ImageArray
    options: Any
    ticket: Ticket
    deadline: float
    keep_frame: bool
    work: Work | None = None
    cancelled: bool = False
    size_hw: tuple[int, int] = (0, 0)
    frame: Frame | None = None
    decode_s: float = 0.0

    def cancel(self) -> None:
        """Drop it, wherever it is."""
        self.cancelled = True
        if self.work is not None:
            self.work.cancel()


class ImageInference:
    """Asks models about pictures.

    Args:
        settings: limits and threads.
    """

    def __init__(self, settings: Settings) -> None:
        self.limits = ImageLimits(max_pixels=settings.max_pixels, max_bytes=settings.max_body_bytes)
        threads = settings.decode_threads or max(2, len(os.sched_getaffinity(0)))
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(wait=True, cancel_futures=True)

    async def ask(
        self,
        entry: ModelEntry,
        body: bytes | memoryview | ImageArray,
        options: Any,
        *,
        ticket: Ticket,
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
        # Given back when the work is settled, not when the caller stops waiting: the device may still be at it.
        future.add_done_callback(lambda _: loaded.release())
        question = _Question(body, options, ticket, time.monotonic() + timeout_s, keep_frame)
        self.pool.submit(self._prepare, loaded, entry, question, settle_async(future, loop))
        try:
            served = await _wait(future, timeout_s, request)
        except BaseException:
            question.cancel()
            # Nobody else looks at it: without this asyncio complains of an exception never retrieved.
            future.add_done_callback(_retrieve)
            raise
        timings_ms = {
            "decode": round(question.decode_s * 1000, 3),
            "queue": round(served.queue_ms, 3),
            "infer": round(served.infer_ms, 3),
        }
        return Answer(served.value, question.size_hw, question.frame, timings_ms, served.batch)

    def _image(self, body: bytes | memoryview | ImageArray, ticket: Ticket) -> ImageArray:
        """Return the pixels of a picture, uint8 [H, W, 3]; raises MediaError, LimitExceededError, QueueFullError."""
        if isinstance(body, np.ndarray):
            height, width = body.shape[:2]
            if width * height > self.limits.max_pixels:
                raise LimitExceededError(
                    f"the image must have at most {self.limits.max_pixels} pixels, got {width} x {height}; scale it "
                    "down"
                )
            return body
        return decode_image(bytes(body), limits=self.limits, source="the image", reserve=ticket.grow)

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
            frame = Frame(image)
            question.size_hw = frame.size_hw
            if question.keep_frame:
                question.frame = frame
            prepared = loaded.served.prepare(frame, question.options)
            question.decode_s = time.monotonic() - began
            entry.metrics.decoded(question.decode_s)
            question.body = b""
            question.work = loaded.batcher.submit(prepared, settle, timeout_s=question.deadline - time.monotonic())
            if question.cancelled:
                question.work.cancel()
        except BaseException as exc:
            settle(None, exc)


async def _wait(future: asyncio.Future[Served], timeout_s: float, request: Request | None) -> Served:
    """Return the answer, or raise when it comes too late or nobody waits for it any more."""
    done, _ = await asyncio.wait((future,), timeout=min(timeout_s, WATCH_AFTER_S))
    if done:
        return future.result()
    watch: asyncio.Future[None] | None = None
    waited: set[asyncio.Future[Any]] = {future}
    if request is not None:
        watch = asyncio.ensure_future(_disconnected(request))
        waited.add(watch)
    try:
        await asyncio.wait(
            waited,
            timeout=max(0.0, timeout_s - WATCH_AFTER_S),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if future.done():
            return future.result()
        if watch is not None and watch.done():
            raise CancelledWorkError("the client went away before its answer was there")
        raise DeadlineError(f"the answer must be there within {timeout_s:g} s, it was not; send less, or wait longer")
    finally:
        if watch is not None:
            watch.cancel()


async def _disconnected(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _retrieve(future: asyncio.Future[Served]) -> None:
    if not future.cancelled():
        future.exception()
