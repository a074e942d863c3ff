"""CUDA's streams, events and graphs for machines without a GPU: they write down their order, and the CPU computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from vision.runtime import device_batches, device_graphs, device_memory, device_resize


class Diary:
    """Streams, events and graphs by name, and what happened to them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.current = "default"
        self.streams = 0
        self.graph_error: Exception | None = None
        self.graphs = 0

    def write(self, line: str) -> None:
        self.lines.append(line)

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


class Event:
    def __init__(self, diary: Diary, stream: str) -> None:
        self.diary, self.stream = diary, stream

    def synchronize(self) -> None:
        self.diary.write(f"host waits for {self.stream}")


class Stream:
    def __init__(self, diary: Diary, name: str) -> None:
        self.diary, self.name = diary, name

    def record_event(self) -> Event:
        self.diary.write(f"{self.name} records")
        return Event(self.diary, self.name)

    def wait_event(self, event: Event) -> None:
        self.diary.write(f"{self.name} waits for {event.stream}")

    def wait_stream(self, other: Stream) -> None:
        self.diary.write(f"{self.name} follows {other.name}")


class FakeCuda:
    """The parts of torch.cuda that the device path uses."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.Event = Event

    def is_available(self) -> bool:
        return True

    def empty_cache(self) -> None:
        self.diary.write("cache emptied")

    def synchronize(self, device: object) -> None:
        self.diary.write("host waits for all")

    def current_stream(self, device: object) -> Stream:
        return Stream(self.diary, self.diary.current)

    def graph_pool_handle(self) -> str:
        return "pool"

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.diary.current = self.diary.current, stream.name
        yield
        self.diary.current = before

    def CUDAGraph(self) -> FakeGraph:  # noqa: N802 - torch's name
        return FakeGraph(self.diary)

    @contextmanager
    def graph(self, graph: FakeGraph, *, pool: str, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        if self.diary.graph_error is not None:
            raise self.diary.graph_error
        yield
        self.diary.write(f"{stream.name} recorded a graph")


class FakeGraph:
    """Replays nothing: what it recorded was computed then, of the same inputs in these tests."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary

    def replay(self) -> None:
        self.diary.write(f"{self.diary.current} replays")

    def reset(self) -> None:
        self.diary.write("graph given up")


class FakeTorch:
    """torch, with tensors on the CPU whatever the device."""

    def __init__(self, diary: Diary) -> None:
        self.cuda = FakeCuda(diary)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def empty(self, *args: Any, device: object = None, pin_memory: bool = False, **options: Any) -> Tensor:
        return torch.empty(*args, **options)

    def zeros(self, *args: Any, device: object = None, pin_memory: bool = False, **options: Any) -> Tensor:
        return torch.zeros(*args, **options)

    def autocast(self, device: str, dtype: torch.dtype | None, **options: Any) -> Any:
        return torch.autocast("cpu", dtype, **options)


def install_fake_cuda(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> Diary:
    """Put the fakes in torch's place in the device path and in ``modules``, and return what they write down."""
    diary = Diary()
    names = iter(("compute", "copy", *(f"side {number}" for number in range(9))))
    fake = FakeTorch(diary)
    for module in (device_batches, device_graphs, device_memory, *modules):
        monkeypatch.setattr(module, "torch", fake)
    for module in (device_batches, device_graphs, device_memory):
        monkeypatch.setattr(module, "new_stream", lambda device: Stream(diary, next(names)))
    monkeypatch.setattr(device_resize, "to_device", lambda values, device: torch.from_numpy(values))
    monkeypatch.setattr(device_batches, "place_network", lambda network, device, dtype: network.eval())
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: diary.write(f"kept for {stream.name}"), raising=True
    )
    return diary
