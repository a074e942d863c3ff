"""How driver and workers of a run on Ray hear of each other while orders are under way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vision.batch.ray_results import totals
from vision.batch.shard_summary import ShardSummary

_TELLING_PERIOD_S = 0.3


@dataclass(frozen=True, slots=True)
class News:
    """How far an order is.

    Attributes:
        order: its number. items, rows, failures: settled so far.
    """

    order: int
    items: int
    rows: int
    failures: int


class Board:
    """An actor by which the driver and the workers hear of each other while an order is under way."""

    def __init__(self) -> None:
        self._is_stopping = False
        self._news: dict[str, News] = {}
        self._tries: Counter[int] = Counter()

    def begin(self, order: int) -> tuple[int, bool]:
        """Count the workers that have begun an order, and return how many and whether to stop."""
        self._tries[order] += 1
        return self._tries[order], self._is_stopping

    def tell(self, worker: str, news: News) -> bool:
        """Take a worker's news, and return whether it should stop."""
        # The latest comes last, for where an order was begun anew by another worker.
        self._news.pop(worker, None)
        self._news[worker] = news
        return self._is_stopping

    def look(self, stop: bool) -> list[News]:
        """Return the latest news of each worker; with ``stop`` have them all stop."""
        self._is_stopping |= stop
        return list(self._news.values())


class BoardClient:
    """A worker's view of the board; without one the work goes on, only nobody hears of it."""

    def __init__(self, board: Any, worker: str) -> None:
        self.is_stopping = False
        self._board = board
        self._worker = worker
        self._answer: Any = None
        self._told_s = 0.0

    def begin(self, order: int) -> int:
        """Return how often this order was begun, this time included; here it is worth waiting for the answer."""
        import ray
        from ray.exceptions import RayError

        try:
            tries, is_stopping = ray.get(self._board.begin.remote(order))
        except RayError:
            return 1
        self.is_stopping |= is_stopping
        return int(tries)

    def tell(self, order: int, known: Sequence[ShardSummary], counts: tuple[int, int, int]) -> None:
        """Say how far an order is, unless that was just done, and hear whether to stop."""
        import ray
        from ray.exceptions import RayError

        now = time.monotonic()
        if now - self._told_s < _TELLING_PERIOD_S:
            return
        if self._answer is not None:
            if not ray.wait([self._answer], timeout=0)[0]:
                return
            try:
                self.is_stopping |= ray.get(self._answer)
            except RayError:
                self._answer = None
        self._told_s = now
        items, rows, failures = (had + new for had, new in zip(totals(known), counts, strict=True))
        self._answer = self._board.tell.remote(self._worker, News(order, items, rows, failures))


class BoardView:
    """The driver's view of the board; never waits for it."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._answer: Any = None

    def look(self, *, stop: bool) -> list[News]:
        """Return the news that have come; with ``stop`` have all actors stop."""
        import ray
        from ray.exceptions import RayError

        news: list[News] = []
        if not ray.is_initialized():
            return news
        try:
            if self._answer is not None:
                if not stop and not ray.wait([self._answer], timeout=0)[0]:
                    return news
                if ray.wait([self._answer], timeout=0)[0]:
                    news = ray.get(self._answer)
            self._answer = self.handle.look.remote(stop)
        except RayError:
            self._answer = None
        return news
