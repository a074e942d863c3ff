"""A function over many values by threads: results in order, and few of them waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Value], Result], values: Iterable[Value], threads: int) -> Iterator[Result]:
    """Yield the function of each value, in order; at most twice as many as there are threads are under way."""
    with ThreadPoolExecutor(threads, thread_name_prefix="stride32-list") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for value in values:
                waiting.append(pool.submit(function, value))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
