"""The threads that decode pictures: an executor with a second door for calls that settle their outcome themselves.

The Future of an executor costs a lock, a condition and two wake-ups, about as much as decoding a thumbnail. A request
hands its own callback along and needs none of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

log = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class DecodePool(Executor):
    """A fixed number of threads that take calls in their order.

    Args:
        threads: how many.
        name: what they are called, with their number.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, call: Callable[[], Any]) -> None:
        """Have a call made that raises nothing and tells its outcome itself; raises RuntimeError after the end."""
        with self._closing:
            if self._closed:
                raise RuntimeError("the pool was shut down")
            self._calls.put(call)

    def submit(
        self, fn: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Have a call made and return its outcome to come; raises RuntimeError after the end."""
        future: Future[Result] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:
                future.set_exception(exc)
            else:
                future.set_result(result)

        self.run(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads when they have made the calls that wait: somebody waits for each, so none is cancelled."""
        del cancel_futures
        with self._closing:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:
                # Whoever waited is gone with its event loop; the thread must live on.
                log.exception("the outcome of a call could not be told")
            del call  # or a thread without work would keep the last picture
