"""Changes of models: one at a time, few that wait, and none when the server goes down."""

from __future__ import annotations

import asyncio
import threading

import pytest

from service import changes as changes_module
from service.changes import ModelChanges
from service.errors import QueueFullError, UnavailableError


def test_changes_wait_for_each_other() -> None:
    running: list[int] = []
    most = 0

    def change(number: int) -> int:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        running.remove(number)
        return number

    async def scenario() -> list[int]:
        changes = ModelChanges()
        try:
            return list(await asyncio.gather(*(changes.run(change, number) for number in range(8))))
        finally:
            changes.close()

    assert asyncio.run(scenario()) == list(range(8))
    assert most == 1


def test_few_changes_wait_and_a_caller_that_leaves_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "MAX_WAITING", 2)
    gate, done = threading.Event(), threading.Event()

    def slow() -> None:
        gate.wait(10)
        done.set()

    async def scenario() -> None:
        changes = ModelChanges()
        first = asyncio.create_task(changes.run(slow))
        second = asyncio.create_task(changes.run(slow))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError):
            await changes.run(slow)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.set()
        await second
        assert done.is_set()
        await changes.run(slow)
        changes.close()

    asyncio.run(scenario())


def test_failures_come_out_and_draining_refuses() -> None:
    async def scenario() -> None:
        changes = ModelChanges()
        with pytest.raises(ZeroDivisionError):
            await changes.run(lambda: 1 // 0)
        changes.draining = True
        with pytest.raises(UnavailableError, match="going down"):
            await changes.run(lambda: None)
        changes.close()

    asyncio.run(scenario())
