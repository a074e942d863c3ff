"""Threads that fetch: each order has one answer, and one that hangs costs neither the others nor its thread's place."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from vision.batch import fetchers
from vision.batch.fetchers import Fetched, Fetchers
from vision.batch.items import Item
from vision.errors import MediaError


def item(index: int, name: str, kind: str = "image") -> Item:
    return Item(index, name, f"memory://b/{name}", kind)  # type: ignore[arg-type]


def collect(found: Fetchers, count: int, woken: threading.Event) -> list[Fetched]:
    results: list[Fetched] = []
    deadline = time.monotonic() + 10
    while len(results) < count:
        assert time.monotonic() < deadline, f"only {len(results)} of {count} came"
        woken.wait(0.05)
        woken.clear()
        results += found.results()
    return sorted(results, key=lambda each: each.ticket)


def test_each_order_has_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch_bytes(wanted: Item, max_bytes: int) -> bytes:
        assert max_bytes == 99
        if wanted.name == "bad":
            raise MediaError("bad cannot\nbe fetched")
        if wanted.name == "odd":
            raise ZeroDivisionError("own")
        return wanted.name.encode()

    monkeypatch.setattr(fetchers, "fetch_bytes", fetch_bytes)
    monkeypatch.setattr(fetchers, "fetch_video", lambda wanted, folder: folder / wanted.name)
    woken = threading.Event()
    found = Fetchers(3, folder=tmp_path, max_bytes=99, timeout_s=10, on_change=woken.set)
    for ticket, wanted in enumerate(
        [item(0, "a"), item(1, "bad"), item(2, "odd"), item(3, "v", "video"), item(4, "e")]
    ):
        found.submit(ticket, wanted)
    results = collect(found, 5, woken)
    assert results[0] == Fetched(0, data=b"a")
    assert results[1].error == "bad cannot be fetched"
    assert results[2].error == "odd cannot be fetched: ZeroDivisionError: own"
    assert results[3] == Fetched(3, path=tmp_path / "v")
    assert results[4].data == b"e"
    assert found.under_way == 0


def test_one_that_hangs_is_given_up_and_its_thread_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def fetch_video(wanted: Item, folder: Path) -> Path:
        if wanted.name == "stuck":
            release.wait(10)
        (folder / wanted.name).write_bytes(b"x")
        return folder / wanted.name

    monkeypatch.setattr(fetchers, "fetch_video", fetch_video)
    woken = threading.Event()
    found = Fetchers(1, folder=tmp_path, max_bytes=9, timeout_s=0.2, on_change=woken.set)
    found.submit(0, item(0, "stuck", "video"))
    assert "not fetched within 0.2 s" in str(collect(found, 1, woken)[0].error)
    found.submit(1, item(1, "next", "video"))
    assert collect(found, 1, woken)[0].path == tmp_path / "next"
    release.set()
    deadline = time.monotonic() + 10
    while (tmp_path / "stuck").exists() or not woken.is_set():
        assert not found.results(), "an answer came twice"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (tmp_path / "stuck").exists(), "what came too late was kept"
