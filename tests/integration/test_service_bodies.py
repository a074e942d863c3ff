"""Every route that takes a body, sent one without end: an answer comes after a bounded number of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import FakeLoader, fake_settings
from fastapi import FastAPI

from service.app import create_app, running

CHUNK = b"[]," * 10_000
LIMIT = 1 << 20
# A snapshot may be larger than a picture.
MOST_BYTES = 100 << 20


def routes_with_bodies(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield method and path of every operation that may be sent a body; parameters are filled in."""
    for path, operations in app.openapi()["paths"].items():
        filled = path.replace("{task}", "detect").replace("{name}", "person-lite0").replace("{model}", "person-lite0")
        filled = filled.replace("{version}", "1")
        for method in operations:
            if method in ("post", "put"):
                yield method.upper(), filled.replace("{session_id}", "none").replace("{job_id}", "none")


async def send_without_end(app: FastAPI, method: str, path: str, content_type: str) -> tuple[int, int]:
    """Return the status of the answer, and the bytes that were taken before it."""
    taken, status = 0, 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if status:
            await asyncio.sleep(60)
        taken += len(CHUNK)
        if taken > MOST_BYTES:
            raise AssertionError(f"{method} {path} reads on and on")
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-type", content_type.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await asyncio.wait_for(app(scope, receive, send), 60)
    return status, taken


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/octet-stream", "multipart/form-data; boundary=b"]
)
def test_no_body_is_read_without_end(content_type: str, tmp_path: Path) -> None:
    settings = fake_settings(
        tmp_path, max_body_bytes=LIMIT, jobs_max_upload_bytes=2 * LIMIT, fetch_hosts=("a.example",)
    )
    app = create_app(settings, load=FakeLoader(), background=False)

    async def scenario() -> dict[str, tuple[int, int]]:
        async with running(app.state.service, background=False):
            return {
                f"{method} {path}": await send_without_end(app, method, path, content_type)
                for method, path in routes_with_bodies(app)
            }

    answers = asyncio.run(scenario())
    assert len(answers) >= 12
    assert "PUT /v1/defaults/detect" in answers
    for route, (status, taken) in answers.items():
        without_body = status in (200, 202) and taken == 0  # a route that has no use for one and leaves it
        assert without_body or 400 <= status < 500, (route, status)
        assert taken <= MOST_BYTES if "restore" in route else taken <= 3 * LIMIT, (route, taken)


def test_an_operators_body_is_not_read_for_others(tmp_path: Path) -> None:
    settings = fake_settings(tmp_path, api_keys="k" * 20, admin_keys="a" * 20)
    app = create_app(settings, load=FakeLoader(), background=False)

    async def scenario() -> tuple[int, int]:
        async with running(app.state.service, background=False):
            return await send_without_end(app, "PUT", "/v1/defaults/detect", "application/json")

    assert asyncio.run(scenario()) == (401, 0)
