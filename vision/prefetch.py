"""Running an iterator ahead in a thread of its own, through a bounded queue: how the stages of a video overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

# How long a full queue is waited for before looking whether the consumer has gone.
POLL_S = 0.1


class _End:
    """Marks the end of the items, with the error that ended them or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[Item], depth: int) -> Generator[Item, None, None]:
    """Yield ``items`` in order while a thread produces up to ``depth`` of them ahead.

    An error of the producer is raised here after the items before it. Closing the generator ends the thread; the
    producer's current item is finished first.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: Item | _End) -> bool:
        """Return whether the entry was taken; False once the consumer has gone."""
        while not stop.is_set():
            try:
                ready.put(entry, timeout=POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as exc:  # carried to the consumer, whatever it is
            error = exc
        put(_End(error))

    thread = threading.Thread(target=produce, name="stride32-prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(entry := ready.get(), _End):
            yield entry
        if entry.error is not None:
            raise entry.error
    finally:
        stop.set()
        thread.join()
