"""The batcher of one model: its device threads, and batches that form by themselves while the device is busy.

There is one device thread on a GPU. On a CPU there are as many as cores, for pictures side by side get more done there
than one picture on all cores. What waits, and what runs together, is the business of the queue (work_queue.py).

Dispatch is work-conserving: an idle device takes what is there at once, so nothing waits for company unless
``max_delay_ms`` asks for it. Where a batch fails each of its inputs is tried alone, so that one bad one fails alone.

Where a model can launch a batch without waiting for it, a full batch is launched behind the one that runs, so that the
device does not wait for the host between them. Only a full one: any other would be larger if it waited.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from service.batch_cap import BatchCap
from service.batch_roles import BatchObserver, Launcher, Prepared
from service.errors import DeadlineError, InferenceFailedError, UnavailableError
from service.logs import FIELDS
from service.settling import settle_future
from service.work import Priority, Served, Work
from service.work_queue import WorkQueue
from vision.errors import DeviceMemoryError, VisionError
from vision.runtime.device_memory import is_device_lost

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A batch that is under way, or that failed to be."""

    batch: list[Work]
    began: float
    launched: Any = None
    error: Exception | None = None


class Batcher:
    """Runs ``run`` on batches in a thread of its own.

    Args:
        run: prepared inputs of one shape -> one answer each; called in the device thread only.
        name: of the thread.
        max_batch: most inputs in a batch, >= 1; halved when the device runs out of memory, see BatchCap.
        max_delay_ms: how long an input may wait for company while the device is idle.
        observer: is told of waits, batches and failures.
        launcher: the same model as ``run``, where its batches may overlap.
        threads: device threads; more than one for a model whose ``run`` may be called from several at once.
        on_device_lost: called with an error after which nothing will run on the device any more.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Any]], Sequence[Any]],
        *,
        name: str = "model",
        max_batch: int = 1,
        max_delay_ms: float = 0.0,
        observer: BatchObserver | None = None,
        launcher: Launcher | None = None,
        threads: int = 1,
        on_device_lost: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._cap = BatchCap(max_batch)
        self._launcher = launcher
        self._on_device_lost = on_device_lost
        self._free_since = 0.0
        self._run_model = run
        self._observer = observer
        self._queue = WorkQueue(self._cap, delay_s=max_delay_ms / 1000, observer=observer)
        self._threads = [
            threading.Thread(target=self._loop, name=f"device-{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def __len__(self) -> int:
        """Return the inputs that wait."""
        return len(self._queue)

    @property
    def max_batch(self) -> int:
        """Most inputs in a batch at present."""
        return self._cap.size

    def submit(
        self,
        item: Prepared,
        settle: Callable[[Served | None, BaseException | None], None],
        *,
        timeout_s: float = 60.0,
        priority: Priority = Priority.INTERACTIVE,
    ) -> Work:
        """Queue an input; ``settle`` is called once with the answer or the error, in the device thread (or in the one
        that cancels).

        Raises:
            UnavailableError: the batcher was closed.
        """
        work = Work(item, item.shape_key, time.monotonic() + timeout_s, settle, priority)
        self._queue.add(work)
        return work

    def cancel(self, work: Work) -> None:
        """Drop work that nobody waits for, with all the memory it holds; what has begun goes on."""
        self._queue.cancel(work)

    def ask(self, item: Prepared, *, timeout_s: float = 60.0, priority: Priority = Priority.BULK) -> Served:
        """Return the answer, waiting for it in the caller's thread; raises what the model raised."""
        future: Future[Served] = Future()
        work = self.submit(item, settle_future(future), timeout_s=timeout_s, priority=priority)
        try:
            # The device thread drops what has expired; the second more is for a batch that has begun in time.
            return future.result(timeout_s + 1.0)
        except TimeoutError:
            self.cancel(work)
            raise DeadlineError(f"the model must answer within {timeout_s:g} s, it did not; try again later") from None

    def notice(self, error: BaseException) -> None:
        """Look at an error of this model that arose elsewhere, such as in preparing its input."""
        if self._on_device_lost is not None and is_device_lost(error):
            self._on_device_lost(error)

    def close(self) -> None:
        """Finish what waits, then end the thread; new work is refused."""
        self._queue.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _loop(self) -> None:
        under_way: _Begun | None = None
        while True:
            batch = self._queue.take() if under_way is None else self._queue.take_full()
            if not batch and under_way is None:
                return
            begun = self._begin(batch) if batch else None
            if under_way is not None:
                self._end(under_way)
            under_way = begun
            if begun is not None and (self._launcher is None or begun.error is not None):
                self._end(begun)
                under_way = None

    def _begin(self, batch: list[Work]) -> _Begun:
        """Launch a batch where that can be done apart from waiting for it."""
        began = time.monotonic()
        if self._launcher is None:
            return _Begun(batch, began)
        try:
            return _Begun(batch, began, self._launcher.launch_all([work.item for work in batch]))
        except Exception as exc:
            return _Begun(batch, began, error=exc)

    def _end(self, begun: _Begun) -> None:
        """Wait for a batch and settle all of it, whatever happens."""
        batch = begun.batch
        if begun.error is not None:
            self._recover(batch, begun.error)
            return
        try:
            if self._launcher is None:
                values = self._run_model([work.item for work in batch])
            else:
                values = self._launcher.collect_all(begun.launched)
            if len(values) != len(batch):
                raise InferenceFailedError(f"the model must give {len(batch)} answers, it gave {len(values)}")
        except Exception as exc:
            self._recover(batch, exc)
            return
        began, now = begun.began, time.monotonic()
        if self._launcher is not None:
            # One that was launched behind another had the device from when that one was done.
            began, self._free_since = max(began, self._free_since), now
        seconds = now - began
        if self._observer is not None:
            self._observer.ran(len(batch), seconds)
        for work, value in zip(batch, values, strict=True):
            waited = began - work.enqueued
            if self._observer is not None:
                self._observer.waited(waited)
            work.finish(Served(value, waited * 1000, seconds * 1000, len(batch)))

    def _run(self, batch: list[Work]) -> None:
        self._end(self._begin(batch))

    def _recover(self, batch: list[Work], error: Exception) -> None:
        """Try parts of a failed batch, so that only the guilty fail; all of it fails on a lost device."""
        if isinstance(error, DeviceMemoryError):
            self._shrink(batch, error)
        elif is_device_lost(error):
            self.notice(error)
            for work in batch:
                self._fail(work, error)
        elif len(batch) == 1:
            self._fail(batch[0], error)
        else:
            for work in batch:
                self._run([work])

    def _shrink(self, batch: list[Work], error: DeviceMemoryError) -> None:
        """Halve the batches after the device ran out of memory, and try again; one picture too large fails alone."""
        if len(batch) == 1:
            log.warning("out of device memory for one input (%s)", error, extra=_of_request(batch[0]))
            self._fail(
                batch[0],
                UnavailableError(
                    "the device must have memory for this picture, it has not; send it smaller, or try again later",
                    retry_after_s=5,
                    code="out_of_memory",
                ),
            )
            return
        size = self._cap.shrink(len(batch))
        log.warning("out of device memory (%s); batches hold at most %d inputs now", error, size)
        # A part may shrink the batches again: its size is decided here, or inputs between the parts would be lost.
        for start in range(0, len(batch), size):
            self._run(batch[start : start + size])

    def _fail(self, work: Work, error: Exception) -> None:
        if self._observer is not None:
            self._observer.failed(error)
        if not isinstance(error, VisionError):
            log.error("the model failed on an input", exc_info=error, extra=_of_request(work))
            error = (
                _device_lost()
                if is_device_lost(error)
                else InferenceFailedError("the model failed on this picture; the server's log has the reason")
            )
        work.finish(error=error)


def _device_lost() -> UnavailableError:
    return UnavailableError(
        "the device must answer, it does not any more and this server starts again; try again soon",
        retry_after_s=10,
        code="device_lost",
    )


def _of_request(work: Work) -> dict[str, dict[str, str]]:
    """Return what names a work's request in a log line, for the device thread has none of its own."""
    return {FIELDS: {"request_id": work.request_id}} if work.request_id else {}
