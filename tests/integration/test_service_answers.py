"""Slow clients and slow answers: neither keeps the others from the device, and both end with their deadline."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fake_models import FakeServer, fake_server, png, until

from service.routes import images


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FakeServer]:
    with fake_server(tmp_path, queue_items=8, decode_threads=1) as made:
        yield made


class Stalled:
    """Requests of one address that announce a body and send none of it; the answers they get, by status."""

    def __init__(self, server: FakeServer, count: int) -> None:
        self._portal = server.client.portal
        self._app = server.client.app
        self.statuses: list[int] = []
        assert self._portal is not None
        self._tasks = [self._portal.start_task_soon(self._ask) for _ in range(count)]

    async def _ask(self) -> None:
        scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
            "path": "/v1/detect", "raw_path": b"/v1/detect", "query_string": b"", "root_path": "",
            "headers": [(b"content-length", b"1000")], "client": ("192.0.2.9", 5), "server": ("127.0.0.1", 80),
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            await anyio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        await self._app(scope, receive, send)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


def test_stalled_bodies_of_one_client_leave_places_for_others(server: FakeServer) -> None:
    stalled = Stalled(server, 40)
    deadline = time.monotonic() + 20
    while len(stalled.statuses) < 32:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert set(stalled.statuses) == {429}
    assert server.service.admission.uploads.total == 8
    assert server.service.admission.items == 0
    assert [server.detect(red).status_code for red in range(1, 6)] == [200] * 5
    stalled.end()


def test_answers_do_not_wait_behind_pictures_that_came_later(server: FakeServer) -> None:
    held = threading.Event()
    blocked = server.service.inference.pool.submit(until, held)  # the only decode thread
    work = server.service.inference.write(lambda: threading.current_thread().name, 5.0)
    assert server.client.portal is not None
    assert server.client.portal.call(_await, work).startswith("answer")
    held.set()
    blocked.result(20)


def test_drawing_ends_with_the_deadline(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr(images, "draw", lambda *_: until(held) or b"late")
    began = time.monotonic()
    answer = server.detect(1, "?timeout_ms=200", headers={"Accept": "image/png"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert time.monotonic() - began < 5
    assert server.service.admission.items == server.service.admission.bytes == 0
    assert 'stride32_rejects_total{reason="deadline_exceeded"} 1.0' in server.client.get("/metrics").text
    held.set()


@pytest.mark.parametrize(("few", "thread"), [(0, "answer"), (300, "")])
def test_many_boxes_are_written_beside_the_event_loop(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, few: int, thread: str
) -> None:
    names: list[str] = []
    written = images.write_answer

    def noted(*arguments: Any) -> bytes:
        names.append(threading.current_thread().name)
        return written(*arguments)

    monkeypatch.setattr(images, "write_answer", noted)
    monkeypatch.setattr(images, "FEW_DETECTIONS", few)
    answer = server.detect(255)
    assert json.loads(answer.content)["detections"][0]["score"] == 1.0
    assert names[0].startswith("answer") is bool(thread)


def test_body_is_let_go_when_it_is_decoded(server: FakeServer) -> None:
    held: list[Any] = []
    server.loader.detector.gate.clear()
    ask = server.service.inference.ask

    def noted(entry: Any, body: Any, *rest: Any, **named: Any) -> Any:
        asking = ask(entry, body, *rest, **named)
        held.append(asking)
        return asking

    server.service.inference.ask = noted  # type: ignore[method-assign]
    thread = threading.Thread(target=server.client.post, args=("/v1/detect",), kwargs={"content": png(3)})
    thread.start()
    until(server.loader.detector.begun)
    frame = held[0].cr_frame
    assert "body" not in frame.f_locals
    assert frame.f_locals["question"].body == b""
    server.loader.detector.gate.set()
    thread.join(20)


async def _await(work: Any) -> Any:
    return await work
