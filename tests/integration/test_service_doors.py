"""Who comes in and what goes out: keys that are tried, names of the server, pictures by address."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_models import fake_server, png

from service import fetch
from service.fetch import ImageFetcher

KEY = "user-0123456789abcdef"


def error_of(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_keys_that_are_tried_wait_like_all_else(tmp_path: Path) -> None:
    with fake_server(tmp_path, api_keys=KEY, rate_limit=0.001, rate_burst=2) as server:
        tried = [server.detect(headers={"x-api-key": f"wrong-{number}"}) for number in range(3)]
        assert [error_of(response)[0] for response in tried] == [401, 401, 429]
        assert "Retry-After" in tried[2].headers
        assert server.detect(headers={"x-api-key": KEY}).status_code == 200
        assert server.detect(headers={"x-api-key": KEY + "x" * 512}).status_code == 429
        assert server.client.get("/healthz").status_code == 200


def test_probes_need_no_allowed_name(tmp_path: Path) -> None:
    with fake_server(tmp_path, host="0.0.0.0", allowed_hosts="vision.example") as server:
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert server.client.get(path, headers={"host": "10.1.2.3:8000"}).status_code == 200, path
        assert error_of(server.client.get("/v1/models", headers={"host": "10.1.2.3:8000"}))[0] == 403
        assert server.client.get("/v1/models", headers={"host": "vision.example"}).status_code == 200


class Handler(BaseHTTPRequestHandler):
    """Gives a picture at once, or after the test."""

    def do_GET(self) -> None:
        if self.path == "/slow.png":
            END.wait(10)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png(77))

    def log_message(self, format: str, *args: object) -> None:
        del format, args


END = threading.Event()


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host of pictures on this machine."""
    END.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as host:
        thread = threading.Thread(target=host.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setitem(fetch._PORTS, "http", host.server_port)
        yield
        END.set()
        host.shutdown()
        thread.join()


@pytest.mark.usefixtures("pictures")
def test_pictures_by_address_keep_to_the_deadline(tmp_path: Path) -> None:
    with fake_server(tmp_path, fetch_hosts="a.example") as server:
        server.service.fetcher = ImageFetcher(
            ["a.example"], max_bytes=10_000, resolver=lambda host, port: ["127.0.0.1"], allowed=lambda address: True
        )
        good = server.client.post("/v1/detect", json={"url": "http://a.example/good.png"})
        assert good.json()["detections"] == server.detect(77).json()["detections"]
        began = time.monotonic()
        slow = server.client.post("/v1/detect?timeout_ms=300", json={"url": "http://a.example/slow.png"})
        assert error_of(slow) == (504, "deadline_exceeded")
        assert time.monotonic() - began < 3
        assert server.service.admission.bytes == 0
        assert error_of(server.client.post("/v1/detect", json={"url": "http://b.example/good.png"}))[0] == 403
        END.set()
        server.service.fetcher.close()
