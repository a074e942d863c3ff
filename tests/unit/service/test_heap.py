"""Heaps of the C library: few of them, and free memory given back."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import pytest

from service import heap


class FakeLibc:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append(("mallopt", option, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.calls.append(("malloc_trim", pad))
        return 1


@pytest.fixture
def libc(monkeypatch: pytest.MonkeyPatch) -> FakeLibc:
    fake = FakeLibc()
    monkeypatch.setattr(heap, "_glibc", lambda: fake)
    return fake


def test_threads_share_two_heaps_unless_the_operator_says_otherwise(
    libc: FakeLibc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    heap.limit_heaps()
    assert libc.calls == [("mallopt", -8, 2)]
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    heap.limit_heaps()
    assert len(libc.calls) == 1


def test_free_memory_is_given_back(libc: FakeLibc) -> None:
    heap.trim_heaps()
    assert libc.calls == [("malloc_trim", 0)]


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, names in (("darwin", FakeLibc()), ("linux", object())):  # musl knows no gnu_get_libc_version
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(ctypes, "CDLL", lambda _, found=names: found)
        heap.limit_heaps()
        heap.trim_heaps()
        assert getattr(names, "calls", []) == []


def test_the_real_library_can_be_asked() -> None:
    heap.trim_heaps()
