"""Batches that overlap: a full one is launched behind the one that runs, and all that can go wrong still goes right."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from fake_models import Answers, Item, Observer, until

from service.batching import Batcher
from service.errors import CancelledWorkError, InferenceFailedError, UnavailableError
from vision.errors import DeviceMemoryError


class Device:
    """A launcher that writes down what it does; batches end while it is not held.

    Attributes:
        diary: "launch ab", "collect ab" in order.
        launched: counts launches.
        failing, failing_late: called with the names at launch and at collection; what they raise is the error.
    """

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.launched = threading.Semaphore(0)
        self.collecting = threading.Semaphore(0)
        self.failing: Callable[[str], None] = lambda names: None
        self.failing_late: Callable[[str], None] = lambda names: None
        self.under_way = self.most_under_way = 0
        self.gate = threading.Event()

    def launch_all(self, inputs: Sequence[Item]) -> str:
        names = "".join(item.name for item in inputs)
        self.diary.append(f"launch {names}")
        self.failing(names)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.launched.release()
        return names

    def collect_all(self, launched: str) -> list[str]:
        self.collecting.release()
        until(self.gate)
        self.diary.append(f"collect {launched}")
        self.under_way -= 1
        self.failing_late(launched)
        return list(launched.upper())


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.gate.set()


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def start(device: Device) -> Iterator[Callable[..., Batcher]]:
    """Make batchers of two whose device is busy with "-"; what is queued now waits."""
    made: list[Batcher] = []

    def refuse(inputs: Any) -> Any:
        raise AssertionError("what can be launched is not run")

    def make(**options: Any) -> Batcher:
        made.append(Batcher(refuse, max_batch=2, launcher=device, **options))
        made[0].submit(Item("-", "alone"), lambda served, error: None)
        until(device.collecting)
        return made[0]

    yield make
    device.gate.set()
    for batcher in made:
        batcher.close()


def queue(batcher: Batcher, answers: Answers, names: str) -> None:
    for name in names:
        batcher.submit(Item(name), answers.of(name))


def test_a_full_batch_is_launched_before_the_one_ahead_is_collected(
    start: Callable[..., Batcher], device: Device, answers: Answers
) -> None:
    observer = Observer()
    batcher = start(observer=observer)
    queue(batcher, answers, "abcd")
    device.gate.set()
    values = answers.wait(4)
    assert device.diary == [
        "launch -", "collect -", "launch ab", "launch cd", "collect ab", "collect cd"
    ]  # fmt: skip
    assert answers.order == list("abcd")
    assert all(values[name].value == name.upper() for name in "abcd")
    assert all(values[name].queue_ms >= 0 and values[name].infer_ms >= 0 for name in "abcd")
    assert device.most_under_way == 2
    assert observer.batches == [1, 2, 2]


def test_a_batch_with_room_waits_for_company_instead(
    start: Callable[..., Batcher], device: Device, answers: Answers
) -> None:
    batcher = start()
    queue(batcher, answers, "abc")
    device.gate.set()
    answers.wait(3)
    assert device.diary == ["launch -", "collect -", "launch ab", "collect ab", "launch c", "collect c"]


def test_what_is_under_way_is_never_more_than_two(
    start: Callable[..., Batcher], device: Device, answers: Answers
) -> None:
    batcher = start()
    queue(batcher, answers, "abcdefghij")
    device.gate.set()
    answers.wait(10)
    assert device.most_under_way == 2
    assert "".join(answers.order) == "abcdefghij"


@pytest.mark.parametrize("late", [False, True], ids=["at launch", "at collection"])
def test_a_bad_input_of_the_second_batch_fails_alone(
    start: Callable[..., Batcher], device: Device, answers: Answers, late: bool
) -> None:
    def fail(names: str) -> None:
        if "c" in names:
            raise ValueError("c is bad")

    setattr(device, "failing_late" if late else "failing", fail)
    queue(start(), answers, "abcdef")
    device.gate.set()
    values = answers.wait(6)
    assert isinstance(values["c"], InferenceFailedError)
    assert all(values[name].value == name.upper() for name in "abdef")
    assert sorted(answers.order) == list("abcdef")  # each settled once


@pytest.mark.parametrize("late", [False, True], ids=["at launch", "at collection"])
def test_a_lack_of_memory_halves_the_batches(
    start: Callable[..., Batcher], device: Device, answers: Answers, late: bool
) -> None:
    def need_memory(names: str) -> None:
        if names == "cd":
            raise DeviceMemoryError("no memory left")

    setattr(device, "failing_late" if late else "failing", need_memory)
    batcher = start()
    queue(batcher, answers, "abcdef")
    device.gate.set()
    values = answers.wait(6)
    assert all(values[name].value == name.upper() for name in "abcdef")
    assert batcher.max_batch == 1
    # The batch ahead is collected before the parts are tried: its memory is free then.
    assert device.diary.index("collect ab") < device.diary.index("launch c")


def test_a_lost_device_fails_both(start: Callable[..., Batcher], device: Device, answers: Answers) -> None:
    def lose(names: str) -> None:
        if names != "-":
            raise RuntimeError("CUDA error: unspecified launch failure")

    device.failing_late = lose
    lost: list[BaseException] = []
    queue(start(on_device_lost=lost.append), answers, "abcd")
    device.gate.set()
    values = answers.wait(4)
    assert {values[name].error_code for name in "abcd"} == {"device_lost"}
    assert lost


def test_too_few_answers_are_a_failure_of_the_model(
    start: Callable[..., Batcher], device: Device, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = start()
    monkeypatch.setattr(device, "collect_all", lambda launched: [])
    queue(batcher, answers, "abc")
    device.gate.set()
    assert all(isinstance(error, InferenceFailedError) for error in answers.wait(3).values())


def test_work_can_be_cancelled_until_it_is_launched(
    start: Callable[..., Batcher], device: Device, answers: Answers
) -> None:
    batcher = start()
    waiting = [batcher.submit(Item(name), answers.of(name)) for name in "abc"]
    batcher.cancel(waiting[1])
    device.gate.set()
    values = answers.wait(3)
    assert isinstance(values["b"], CancelledWorkError)
    assert "launch ac" in device.diary


def test_close_collects_what_is_under_way_and_what_waits(
    start: Callable[..., Batcher], device: Device, answers: Answers
) -> None:
    batcher = start()
    queue(batcher, answers, "abcde")
    closing = threading.Thread(target=batcher.close)
    closing.start()
    device.gate.set()
    closing.join(20)
    assert not closing.is_alive()
    assert "".join(answers.order) == "abcde"
    assert device.under_way == 0
    with pytest.raises(UnavailableError):
        batcher.submit(Item("late"), answers.of("late"))
