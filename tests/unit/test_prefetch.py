"""Running ahead in a thread: order, errors, closing, the bound. Threads meet at events; nothing sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vision.prefetch import prefetch

PATIENCE_S = 30.0


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "stride32-prefetch"]


def consume(items: Iterator[int], seen: list[int]) -> None:
    for item in items:
        seen.append(item)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert running() == []


@pytest.mark.parametrize("depth", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_items_come_in_order(count: int, depth: int) -> None:
    assert list(prefetch(range(count), depth)) == list(range(count))


def test_none_and_exceptions_are_items_like_others() -> None:
    error = ValueError("an item, not raised")
    assert list(prefetch([None, error, False], 2)) == [None, error, False]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_comes_after_the_items_before_it(error: BaseException) -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise error

    seen: list[int] = []
    with pytest.raises(type(error)) as caught:
        consume(prefetch(broken(), 2), seen)
    assert caught.value is error
    assert seen == [0, 1, 2]


def test_it_runs_at_most_depth_ahead() -> None:
    """With depth 2 and one item taken, two fill the queue, one more waits for room, and none after it is begun."""
    begun: list[int] = []
    waits = threading.Event()

    def items() -> Iterator[int]:
        for number in range(10):
            begun.append(number)
            if number == 3:
                waits.set()
            yield number

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    assert waits.wait(PATIENCE_S)
    assert begun == [0, 1, 2, 3]
    ahead.close()
    assert begun == [0, 1, 2, 3]


def test_closing_stops_the_thread() -> None:
    """The producer is endless; without a stop, ``close`` would not return or the thread would stay."""

    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    ahead = prefetch(endless(), 2)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert running()
    ahead.close()
    assert running() == []
    with pytest.raises(StopIteration):
        next(ahead)


def test_an_error_of_the_consumer_stops_the_thread() -> None:
    def fail(items: Iterator[int]) -> None:
        for _ in items:
            raise RuntimeError("the consumer broke")

    ahead = prefetch(iter(range(1000)), 2)
    with pytest.raises(RuntimeError, match="the consumer broke"):
        fail(ahead)
    ahead.close()
    assert running() == []


def test_producer_and_consumer_overlap() -> None:
    """The producer finishes item 1 only while the consumer holds item 0: in turns, this would wait for ever."""
    consumer_has_first = threading.Event()
    second_is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert consumer_has_first.wait(PATIENCE_S)
        second_is_made.set()
        yield 1

    ahead = prefetch(items(), 1)
    assert next(ahead) == 0
    consumer_has_first.set()
    assert second_is_made.wait(PATIENCE_S)  # before the consumer asks again
    assert list(ahead) == [1]


def test_nothing_starts_before_the_first_item_is_asked_for() -> None:
    ahead = prefetch(iter([1]), 1)
    assert running() == []
    ahead.close()
