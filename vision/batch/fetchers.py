"""Threads that fetch bytes from stores: many at a time, for each of them mostly waits."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vision.batch.fetching import fetch_bytes, fetch_video
from vision.batch.items import Item
from vision.errors import VisionError


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of an order: bytes of a picture, the path of a video, or an error of one line."""

    ticket: int
    data: bytes | None = None
    path: Path | None = None
    error: str | None = None


class Fetchers:
    """Fetches the items that it is given; what comes of them is asked for.

    Args:
        threads: how many fetch at a time.
        folder: where videos go.
        max_bytes: most bytes of a picture.
        timeout_s: after which an item is given up; its thread is left to itself and another one takes its place.
        on_change: called when there is something to ask for, on a thread.
    """

    def __init__(
        self, threads: int, *, folder: Path, max_bytes: int, timeout_s: float, on_change: Callable[[], None]
    ) -> None:
        self.threads = threads
        self._folder = folder
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._on_change = on_change
        self._orders: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[Fetched, float]] = queue.SimpleQueue()
        # Ticket to when a thread began with it; 0 while it waits for one.
        self._open: dict[int, float] = {}
        self._items: dict[int, Item] = {}
        self.busy_s = 0.0
        self._started = 0

    def submit(self, ticket: int, item: Item) -> None:
        """Have an item fetched."""
        self._open[ticket] = 0.0
        self._items[ticket] = item
        self._orders.put((ticket, item))
        if self._started < min(self.threads, len(self._open)):
            self._start()

    @property
    def under_way(self) -> int:
        """Items that were submitted and are not settled."""
        return len(self._open)

    def results(self) -> list[Fetched]:
        """Return what has come since the last call, and an error for each item that takes too long."""
        found = []
        with suppress(queue.Empty):
            while True:
                fetched, seconds = self._results.get_nowait()
                self.busy_s += seconds
                if self._open.pop(fetched.ticket, None) is not None:
                    del self._items[fetched.ticket]
                    found.append(fetched)
                elif fetched.path is not None:
                    fetched.path.unlink(missing_ok=True)
        now = time.monotonic()
        for ticket, began_s in list(self._open.items()):
            if began_s and now - began_s > self._timeout_s:
                del self._open[ticket]
                name = self._items.pop(ticket).name
                found.append(Fetched(ticket, error=f"{name} was not fetched within {self._timeout_s:g} s; try again"))
                self._start()
        return found

    def _start(self) -> None:
        self._started += 1
        threading.Thread(target=self._work, name=f"stride32-fetch_{self._started}", daemon=True).start()

    def _work(self) -> None:
        while True:
            ticket, item = self._orders.get()
            started = time.monotonic()
            if ticket in self._open:
                self._open[ticket] = started
            fetched = self._fetch(ticket, item)
            is_given_up = ticket not in self._open
            self._results.put((fetched, time.monotonic() - started))
            self._on_change()
            if is_given_up:
                return  # another thread has this one's place

    def _fetch(self, ticket: int, item: Item) -> Fetched:
        try:
            if item.kind == "video":
                return Fetched(ticket, path=fetch_video(item, self._folder))
            return Fetched(ticket, data=fetch_bytes(item, self._max_bytes))
        except VisionError as exc:
            return Fetched(ticket, error=" ".join(str(exc).split()))
        except Exception as exc:  # a store's client has exceptions of its own
            return Fetched(ticket, error=f"{item.name} cannot be fetched: {type(exc).__name__}: {exc}")
