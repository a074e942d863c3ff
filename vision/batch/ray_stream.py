"""The answers of a Ray dataset, one an order, as a queue."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from vision.batch.ray_results import Done


class OrderStream:
    """The rows of a dataset, taken on a thread of their own: the driver must hear Ctrl-C between two of them."""

    def __init__(self, open_rows: Callable[[], Iterator[Any]]) -> None:
        self.error: Exception | None = None
        self._open_rows = open_rows
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="stride32-ray", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return not self._thread.is_alive() and self._done.empty()

    def next(self, timeout_s: float) -> Done | None:
        """Return what came of the next order, if it comes in time."""
        try:
            return self._done.get(timeout=0 if not self._thread.is_alive() else timeout_s)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Take no more; the dataset ends, and its actors with it, when its next row comes."""
        self._is_closed = True

    def _work(self) -> None:
        try:
            rows = self._open_rows()
            for row in rows:
                self._done.put(pickle.loads(row["done"]))
                if self._is_closed:
                    break
            close = getattr(rows, "close", None)
            if close is not None:
                close()
        except Exception as exc:  # whatever Ray raises: the driver tells of it
            self.error = exc
