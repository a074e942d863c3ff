"""The queue before one model: what runs next and with whom, and what is dropped because nobody wants it any more.

Any thread may add and cancel work; device threads take it in batches. Interactive work goes before work in bulk. A
batch holds inputs of one shape, the longest waiting first. Work that was cancelled, or whose deadline has passed, is
dropped before it runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from service.batch_cap import BatchCap
from service.batch_roles import BatchObserver
from service.errors import CancelledWorkError, DeadlineError, UnavailableError
from service.work import Work
from vision.errors import VisionError

# Work in bulk waits for interactive work, but never longer than this, or a busy server would never finish a video.
BULK_PATIENCE_S = 0.25


class WorkQueue:
    """The inputs that wait for a model.

    Args:
        cap: how many a batch may hold at the moment.
        delay_s: how long an input may wait for company while the device is idle.
        observer: is told of work that is dropped.
    """

    def __init__(self, cap: BatchCap, *, delay_s: float = 0.0, observer: BatchObserver | None = None) -> None:
        self._cap = cap
        self._delay_s = delay_s
        self._observer = observer
        # One of each priority.
        self._queues: tuple[deque[Work], deque[Work]] = (deque(), deque())
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        """Return the inputs that wait."""
        return len(self._queues[0]) + len(self._queues[1])

    def add(self, work: Work) -> None:
        """Let work wait for its turn; raises UnavailableError when the queue is closed."""
        with self._changed:
            if self._closed:
                raise UnavailableError("the model must be loaded to be asked, it was unloaded just now; try again")
            self._queues[work.priority].append(work)
            self._changed.notify()

    def cancel(self, work: Work) -> None:
        """Drop work that nobody waits for, with all the memory it holds; what was taken goes on."""
        with self._changed:
            try:
                self._queues[work.priority].remove(work)
            except ValueError:
                return
        self._drop(work, "cancelled", CancelledWorkError("the work was cancelled before it began"))

    def close(self) -> None:
        """Refuse new work, and let what waits be taken without delay."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[Work]:
        """Return the next batch, waiting for work; an empty one when closed and nothing is left."""
        with self._changed:
            while True:
                self._cap.recover()
                self._drop_expired()
                first = self._next()
                if first is None:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                batch = self._company(first)
                # Waiting for company must leave the work time to run.
                until = min(first.enqueued + self._delay_s, (first.enqueued + first.deadline) / 2)
                patience = until - time.monotonic()
                if len(batch) >= self._cap.size or patience <= 0 or self._closed:
                    return self._pick(batch)
                self._changed.wait(patience)

    def take_full(self) -> list[Work]:
        """Return the next batch if it is full already, else an empty one."""
        with self._changed:
            self._drop_expired()
            first = self._next()
            batch = [] if first is None else self._company(first)
            return self._pick(batch) if len(batch) >= self._cap.size else []

    def _pick(self, batch: list[Work]) -> list[Work]:
        for work in batch:
            self._queues[work.priority].remove(work)
        return batch

    def _next(self) -> Work | None:
        """Return the work whose turn it is."""
        interactive, bulk = self._queues
        if bulk and (not interactive or time.monotonic() - bulk[0].enqueued > BULK_PATIENCE_S):
            return bulk[0]
        return interactive[0] if interactive else None

    def _company(self, first: Work) -> list[Work]:
        """Return ``first`` and what can run with it, the longest waiting of its own queue first."""
        own, other = self._queues[first.priority], self._queues[1 - first.priority]
        batch: list[Work] = []
        for queue in (own, other):
            for work in queue:
                if len(batch) == self._cap.size:
                    return batch
                if work.shape_key == first.shape_key:
                    batch.append(work)
        return batch

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for queue in self._queues:
            for work in [each for each in queue if each.deadline <= now]:
                queue.remove(work)
                late = DeadlineError("the answer was wanted before the model got to it; send less, or wait longer")
                self._drop(work, "expired", late)

    def _drop(self, work: Work, reason: str, error: VisionError) -> None:
        if self._observer is not None:
            self._observer.dropped(reason)
        work.finish(error=error)
