"""The batcher: what runs together and when, and that one bad input never costs another."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from fake_models import Answers, HeldRun, Item, Observer, until

from service import batching, work_queue
from service.batch_cap import FIRST_PATIENCE_S, BatchCap
from service.batching import Batcher
from service.errors import CancelledWorkError, DeadlineError, InferenceFailedError, UnavailableError
from service.logs import FIELDS, request_id
from service.settling import settle_async, settle_future
from service.work import Priority, Served
from vision.errors import ConfigError, DeviceMemoryError

Start = Callable[..., Batcher]
SMALL, LARGE = (8, 8), (16, 16)


@pytest.fixture
def start() -> Iterator[Start]:
    """Make batchers that are closed at the end."""
    made: list[Batcher] = []

    def make(run: Any, **options: Any) -> Batcher:
        made.append(Batcher(run, **options))
        return made[-1]

    yield make
    for batcher in made:
        batcher.close()


@pytest.fixture
def run() -> Iterator[HeldRun]:
    held = HeldRun()
    yield held
    held.let_go()


@pytest.fixture
def answers() -> Answers:
    return Answers()


def occupy(batcher: Batcher, run: HeldRun, answers: Answers) -> None:
    """Keep the device busy with one input, so that what comes now waits; ``run.let_go()`` ends it."""
    run.hold()
    batcher.submit(Item("first", "alone"), answers.of("first"))
    until(run.begun)


def queue(batcher: Batcher, answers: Answers, names: str, **options: Any) -> None:
    """Queue one input a letter: small letters of one shape, capitals of another."""
    for name in names:
        batcher.submit(Item(name, LARGE if name.isupper() else SMALL), answers.of(name), **options)


def test_idle_device_takes_one_input_at_once(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_batch=8)
    occupy(batcher, run, answers)  # begins with nobody else there
    run.let_go()
    served = answers.wait(1)["first"]
    assert (served.value, served.batch) == ("FIRST", 1)
    assert served.queue_ms >= 0
    assert served.infer_ms >= 0
    assert len(batcher) == 0


@pytest.mark.parametrize(
    ("names", "max_batch", "batches"),
    [
        ("abcd", 4, ["abcd"]),
        ("abcde", 4, ["abcd", "e"]),
        ("abc", 1, ["a", "b", "c"]),
        ("aBcD", 4, ["ac", "BD"]),
        ("AbCdE", 2, ["AC", "bd", "E"]),
        ("a", 4, ["a"]),
    ],
    ids=["all", "cap", "cap of one", "two shapes", "shapes and cap", "one"],
)
def test_waiting_inputs_run_by_shape_in_order(
    start: Start, run: HeldRun, answers: Answers, names: str, max_batch: int, batches: list[str]
) -> None:
    batcher = start(run, max_batch=max_batch)
    occupy(batcher, run, answers)
    queue(batcher, answers, names)
    assert len(batcher) == len(names)
    run.let_go()
    answers.wait(1 + len(names))
    assert ["".join(batch) for batch in run.batches[1:]] == batches
    assert answers.order == ["first", *"".join(batches)]
    assert all(answers.values[name].value == name.upper() for name in names)


def test_interactive_work_goes_first_and_bulk_fills_its_batch(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_batch=3)
    occupy(batcher, run, answers)
    queue(batcher, answers, "xyz", priority=Priority.BULK)
    queue(batcher, answers, "ab", priority=Priority.INTERACTIVE)
    run.let_go()
    answers.wait(6)
    assert ["".join(batch) for batch in run.batches[1:]] == ["abx", "yz"]


def test_bulk_work_that_has_waited_long_goes_first(
    start: Start, run: HeldRun, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_queue, "BULK_PATIENCE_S", 0.0)
    batcher = start(run)
    occupy(batcher, run, answers)
    queue(batcher, answers, "x", priority=Priority.BULK)
    queue(batcher, answers, "ab", priority=Priority.INTERACTIVE)
    run.let_go()
    answers.wait(4)
    assert run.batches == [["first"], ["x"], ["a"], ["b"]]


def test_cancelled_work_leaves_the_queue_at_once(start: Start, run: HeldRun, answers: Answers) -> None:
    observer = Observer()
    batcher = start(run, max_batch=4, observer=observer)
    occupy(batcher, run, answers)
    work = batcher.submit(Item("gone"), answers.of("gone"))
    queue(batcher, answers, "a")
    batcher.cancel(work)
    # The device is still busy: whoever gave up does not hold memory until it is free.
    assert len(batcher) == 1
    assert isinstance(answers.values["gone"], CancelledWorkError)
    batcher.cancel(work)
    run.let_go()
    answers.wait(3)
    assert run.batches == [["first"], ["a"]]
    assert observer.drops == ["cancelled"]
    assert answers.order.count("gone") == 1


def test_work_that_has_begun_is_answered_although_it_is_cancelled(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run)
    run.hold()
    work = batcher.submit(Item("a"), answers.of("a"))
    until(run.begun)
    batcher.cancel(work)
    run.let_go()
    assert answers.wait(1)["a"].value == "A"


def test_expired_work_never_runs(start: Start, run: HeldRun, answers: Answers) -> None:
    observer = Observer()
    batcher = start(run, observer=observer)
    occupy(batcher, run, answers)
    queue(batcher, answers, "l", timeout_s=0.0)
    queue(batcher, answers, "a")
    run.let_go()
    assert isinstance(answers.wait(3)["l"], DeadlineError)
    assert run.batches == [["first"], ["a"]]
    assert observer.drops == ["expired"]


def test_one_bad_input_fails_alone(start: Start, answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(names: list[str]) -> None:
        if "b" in names:
            raise ValueError("/srv/secret: b is bad")

    observer, run = Observer(), HeldRun(refuse)
    batcher = start(run, max_batch=8, observer=observer)
    occupy(batcher, run, answers)
    token = request_id.set("request-7")
    queue(batcher, answers, "abc")
    request_id.reset(token)
    run.let_go()
    values = answers.wait(4)
    assert values["a"].value == "A"
    assert values["c"].value == "C"
    assert isinstance(values["b"], InferenceFailedError)
    assert "secret" not in str(values["b"])
    assert [type(error) for error in observer.failures] == [ValueError]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert getattr(record, FIELDS) == {"request_id": "request-7"}
    assert record.exc_info is not None
    batcher.submit(Item("d"), answers.of("d"))
    assert answers.wait(1)["d"].value == "D"


def test_errors_of_ours_come_through_as_they_are(start: Start, answers: Answers) -> None:
    def refuse(names: list[str]) -> None:
        raise ConfigError("classes must be known, got 'x'; name others")

    batcher = start(HeldRun(refuse))
    queue(batcher, answers, "a")
    assert isinstance(answers.wait(1)["a"], ConfigError)


@pytest.mark.parametrize("given", [0, 1, 3])
def test_wrong_number_of_answers_is_a_failure_of_the_model(start: Start, answers: Answers, given: int) -> None:
    release = threading.Event()

    def run(items: list[Item]) -> list[str]:
        until(release)
        return ["X"] * (len(items) if items[0].name == "first" else given)

    batcher = start(run, max_batch=2)
    batcher.submit(Item("first", "alone"), answers.of("first"))
    queue(batcher, answers, "ab")
    release.set()
    values = answers.wait(3)
    # Each was tried alone: with one answer for one input it is right.
    kinds = {type(values[name]) for name in "ab"}
    assert kinds == ({Served} if given == 1 else {InferenceFailedError})


def test_device_without_memory_halves_batches_and_lives_on(
    start: Start, answers: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    def need_memory(names: list[str]) -> None:
        if len(names) > 2:
            raise DeviceMemoryError("no memory left")

    observer, run = Observer(), HeldRun(need_memory)
    batcher = start(run, max_batch=8, observer=observer)
    occupy(batcher, run, answers)
    queue(batcher, answers, "abcdefg")
    run.let_go()
    values = answers.wait(8)
    assert all(values[name].value == name.upper() for name in "abcdefg")
    assert batcher.max_batch == 1  # 7, then 3, then 1
    assert max(observer.batches) <= 2
    assert not observer.failures
    assert "out of device memory" in caplog.text


def test_picture_too_large_for_the_device_fails_alone(start: Start, answers: Answers) -> None:
    def need_memory(names: list[str]) -> None:
        if "b" in names:
            raise DeviceMemoryError("no memory left")

    run = HeldRun(need_memory)
    batcher = start(run, max_batch=4)
    occupy(batcher, run, answers)
    queue(batcher, answers, "abc")
    run.let_go()
    values = answers.wait(4)
    assert values["a"].value == "A"
    assert values["c"].value == "C"
    error = values["b"]
    assert isinstance(error, UnavailableError)
    assert error.error_code == "out_of_memory"
    assert error.headers["Retry-After"] == "5"


def test_batches_grow_again_when_the_lack_of_memory_is_long_ago(
    start: Start, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, room = [0.0], [1]

    def need_memory(names: list[str]) -> None:
        if len(names) > room[0]:
            raise DeviceMemoryError("no memory left")

    monkeypatch.setattr(batching, "BatchCap", lambda most: BatchCap(most, lambda: now[0]))
    run = HeldRun(need_memory)
    batcher = start(run, max_batch=4)
    occupy(batcher, run, answers)
    queue(batcher, answers, "abcd")
    run.let_go()
    answers.wait(5)
    assert batcher.max_batch == 1
    room[0] = 4
    for size in (2, 4, 4):
        now[0] += FIRST_PATIENCE_S
        queue(batcher, answers, "x")
        answers.wait(1)
        assert batcher.max_batch == size


def test_growing_too_early_makes_the_next_time_later() -> None:
    now = [0.0]
    cap = BatchCap(8, lambda: now[0])

    def grows_after() -> float:
        began, size = now[0], cap.size
        while cap.size == size:
            now[0] += 10
            cap.recover()
        return now[0] - began

    assert cap.shrink(8) == 4
    waits = []
    for _ in range(9):
        waits.append(grows_after())
        assert cap.size == 8
        cap.shrink(8)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    grows_after()
    now[0] += 4000
    assert cap.shrink(3) == 1  # a lack of its own, long after
    assert grows_after() == 60


# -- a lost device


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0"),
    ],
)
def test_a_lost_device_is_told_and_nothing_is_tried_again(
    start: Start, run: HeldRun, answers: Answers, error: Exception
) -> None:
    def lose(names: list[str]) -> None:
        if names != ["first"]:
            raise error

    lost: list[BaseException] = []
    run.failing = lose
    batcher = start(run, max_batch=4, on_device_lost=lost.append)
    occupy(batcher, run, answers)
    queue(batcher, answers, "abc")
    run.let_go()
    values = answers.wait(4)
    assert lost == [error]
    assert run.batches == [["first"], ["a", "b", "c"]]
    assert {getattr(values[name], "error_code", None) for name in "abc"} == {"device_lost"}


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error: an illegal memory access was encountered"),  # not torch's
        RuntimeError("CUDA error: invalid argument"),
        RuntimeError("illegal memory access"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_other_errors_do_not_end_the_server(start: Start, run: HeldRun, answers: Answers, error: Exception) -> None:
    def fail(names: list[str]) -> None:
        raise error

    lost: list[BaseException] = []
    run.failing = fail
    queue(start(run, on_device_lost=lost.append), answers, "a")
    assert isinstance(answers.wait(1)["a"], InferenceFailedError)
    assert not lost


def test_an_input_that_finds_the_device_lost_tells_it_too(start: Start, run: HeldRun) -> None:
    lost: list[BaseException] = []
    batcher = start(run, on_device_lost=lost.append)
    error = RuntimeError("while copying")
    error.__cause__ = RuntimeError("CUDA error: uncorrectable ECC error encountered")
    batcher.notice(error)
    batcher.notice(ValueError("a damaged picture"))
    assert lost == [error]


def test_close_finishes_what_waits_and_refuses_new_work(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_delay_ms=1000.0)
    occupy(batcher, run, answers)
    queue(batcher, answers, "ab")
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while True:  # until the closing thread has said so
        try:
            batcher.submit(Item("late"), answers.of("late"))
            time.sleep(0)
        except UnavailableError:
            break
    run.let_go()
    closing.join(20)
    assert not closing.is_alive()
    assert answers.values["a"].value == "A"
    assert answers.values["b"].value == "B"
    batcher.close()


def test_delay_waits_for_company_until_the_batch_is_full(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_batch=2, max_delay_ms=10_000.0)
    began = time.monotonic()
    queue(batcher, answers, "ab")
    answers.wait(2)
    assert run.batches == [["a", "b"]]
    assert time.monotonic() - began < 5


def test_delay_ends_alone_work(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_batch=2, max_delay_ms=20.0)
    began = time.monotonic()
    queue(batcher, answers, "a")
    assert answers.wait(1)["a"].batch == 1
    assert time.monotonic() - began >= 0.02


def test_delay_never_outlasts_the_deadline(start: Start, run: HeldRun, answers: Answers) -> None:
    batcher = start(run, max_batch=2, max_delay_ms=60_000.0)
    queue(batcher, answers, "a", timeout_s=0.2)
    assert answers.wait(1)["a"].value == "A"


def test_answer_that_cannot_be_delivered_does_not_end_the_thread(start: Start, run: HeldRun, answers: Answers,
                                                                 caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    def raising(served: Served | None, error: BaseException | None) -> None:
        raise RuntimeError("the event loop is closed")

    batcher = start(run, max_batch=2)
    occupy(batcher, run, answers)
    batcher.submit(Item("a"), raising)
    queue(batcher, answers, "b")
    run.let_go()
    assert answers.wait(2)["b"].value == "B"
    assert "could not be delivered" in caplog.text


def test_shape_that_cannot_be_told_is_the_senders_error(start: Start, run: HeldRun, answers: Answers) -> None:
    class Shapeless:
        @property
        def shape_key(self) -> Any:
            raise ValueError("no shape")

    batcher = start(run)
    with pytest.raises(ValueError, match="no shape"):
        batcher.submit(Shapeless(), answers.of("x"))
    queue(batcher, answers, "a")
    assert answers.wait(1)["a"].value == "A"


def test_ask_waits_in_the_callers_thread(start: Start, run: HeldRun) -> None:
    assert start(run).ask(Item("a")).value == "A"


def test_ask_raises_what_the_model_raised(start: Start) -> None:
    def refuse(names: list[str]) -> None:
        raise TimeoutError("the model's own")

    with pytest.raises(InferenceFailedError):
        start(HeldRun(refuse)).ask(Item("a"))


def test_ask_gives_up_at_its_deadline(start: Start, run: HeldRun, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = start(run)
    run.hold()
    with pytest.raises(DeadlineError):
        batcher.ask(Item("a"), timeout_s=-0.95)  # the grace of one second leaves 50 ms
    run.let_go()


def test_settle_future_leaves_a_cancelled_future_alone() -> None:
    future: Future[Served] = Future()
    future.cancel()
    settle_future(future)(Served("late", 0, 0, 1), None)
    assert future.cancelled()


def test_settle_async_delivers_in_the_event_loop() -> None:
    async def ask(error: BaseException | None) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Served] = loop.create_future()
        settle = settle_async(future, loop)
        served = None if error else Served("value", 0, 0, 1)
        await asyncio.to_thread(settle, served, error)
        await asyncio.to_thread(settle, served, error)  # too late, and harmless
        return (await future).value

    assert asyncio.run(ask(None)) == "value"
    with pytest.raises(DeadlineError):
        asyncio.run(ask(DeadlineError("late")))


def test_many_threads_each_get_their_own_answer(start: Start) -> None:
    batcher = start(lambda items: [item.name * 2 for item in items], max_batch=3)
    found: dict[str, str] = {}

    def ask(number: int) -> None:
        for turn in range(20):
            name = f"{number}-{turn}."
            found[name] = batcher.ask(Item(name, number % 2)).value

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 160
    assert all(value == name * 2 for name, value in found.items())


def test_several_device_threads_run_batches_side_by_side(start: Start, run: HeldRun, answers: Answers) -> None:
    run.hold()
    batcher = start(run, threads=3)
    for name in ("a", "b", "c", "d"):
        batcher.submit(Item(name), answers.of(name))
    for _ in range(3):
        until(run.begun)
    assert sorted(run.batches) == [["a"], ["b"], ["c"]]
    assert len(batcher) == 1
    run.let_go()
    batcher.close()
    assert {name: answers.values[name].value for name in "abcd"} == {"a": "A", "b": "B", "c": "C", "d": "D"}


def test_a_batch_is_timed_by_itself_whatever_ended_beside_it(start: Start, answers: Answers) -> None:
    beside_ended = threading.Event()

    def long_and_short(names: list[str]) -> None:
        if names == ["long"]:
            until(beside_ended)
            time.sleep(0.05)

    batcher = start(HeldRun(long_and_short), threads=2)
    batcher.submit(Item("long"), answers.of("long"))
    time.sleep(0.1)
    batcher.submit(Item("short"), answers.of("short"))
    answers.wait(1)
    beside_ended.set()
    found = answers.wait(1)
    assert found["long"].infer_ms > 140
    assert found["long"].queue_ms < 50


def test_a_failure_in_one_device_thread_leaves_the_others(start: Start, answers: Answers) -> None:
    def fail(names: list[str]) -> None:
        if "bad" in names:
            raise RuntimeError("broken")

    batcher = start(HeldRun(fail), threads=2)
    for number in range(20):
        name = "bad" if number % 5 == 0 else f"good {number}"
        batcher.submit(Item(name), answers.of(f"{number}"))
    batcher.close()
    failed = {name for name, value in answers.values.items() if isinstance(value, InferenceFailedError)}
    assert failed == {"0", "5", "10", "15"}
    assert len(answers.order) == 20
