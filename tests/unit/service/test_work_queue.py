"""The queue by itself, without device threads: the order of batches, and that what is taken or dropped is gone."""

from __future__ import annotations

import pytest
from fake_models import Answers, Item, Observer

from service.batch_cap import BatchCap
from service.errors import CancelledWorkError, DeadlineError, UnavailableError
from service.work import Priority, Work
from service.work_queue import WorkQueue

FOREVER = float("inf")


def work(name: str, answers: Answers, *, deadline: float = FOREVER, **options: Priority) -> Work:
    """Return work of one shape for a small letter, of another for a capital."""
    item = Item(name, name.isupper())
    return Work(item, item.shape_key, deadline, answers.of(name), **options)


def names(batch: list[Work]) -> str:
    return "".join(each.item.name for each in batch)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("interactive", "bulk", "batches"),
    [
        ("", "", []),
        ("a", "", ["a"]),
        ("abcd", "", ["abc", "d"]),
        ("aBcD", "", ["ac", "BD"]),
        ("a", "xyz", ["axy", "z"]),
        ("A", "xYz", ["AY", "xz"]),
    ],
    ids=["none", "one", "cap", "two shapes", "bulk fills up", "bulk of another shape waits"],
)
def test_batches_hold_one_shape_in_order(interactive: str, bulk: str, batches: list[str]) -> None:
    queue, answers = WorkQueue(BatchCap(3)), Answers()
    for name in bulk:
        queue.add(work(name, answers, priority=Priority.BULK))
    for name in interactive:
        queue.add(work(name, answers))
    queue.close()  # an empty queue that is open would be waited for
    assert len(queue) == len(interactive + bulk)
    assert [names(queue.take()) for _ in batches] == batches
    assert (queue.take(), len(queue)) == ([], 0)


def test_a_batch_that_is_not_full_is_left_to_grow() -> None:
    queue, answers = WorkQueue(BatchCap(2)), Answers()
    assert queue.take_full() == []
    queue.add(work("a", answers))
    queue.add(work("B", answers))
    assert queue.take_full() == []
    queue.add(work("c", answers))
    assert names(queue.take_full()) == "ac"
    assert len(queue) == 1


def test_what_is_dropped_is_told_once_and_never_taken() -> None:
    observer, answers = Observer(), Answers()
    queue = WorkQueue(BatchCap(4), observer=observer)
    gone, late, kept = work("g", answers), work("l", answers, deadline=0.0), work("k", answers)
    for each in (gone, late, kept):
        queue.add(each)
    queue.cancel(gone)
    queue.cancel(gone)
    assert queue.take() == [kept]
    queue.cancel(kept)  # it was taken: it goes on
    assert (answers.order, observer.drops) == (["g", "l"], ["cancelled", "expired"])
    assert isinstance(answers.values["g"], CancelledWorkError)
    assert isinstance(answers.values["l"], DeadlineError)


def test_a_closed_queue_is_emptied_and_takes_nothing_new() -> None:
    # Without the end it would wait an hour for company.
    queue, answers = WorkQueue(BatchCap(4), delay_s=3600.0), Answers()
    queue.add(work("a", answers))
    queue.close()
    with pytest.raises(UnavailableError, match="unloaded"):
        queue.add(work("b", answers))
    assert names(queue.take()) == "a"
    assert queue.take() == []


def test_whoever_cannot_be_told_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    item = Item("a")
    Work(item, item.shape_key, FOREVER, refuse).finish(error=CancelledWorkError("no matter"))
    assert "could not be delivered" in caplog.text
