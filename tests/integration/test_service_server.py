"""The server process: its line at the start, signals, draining, exit codes, a taken port, a Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

# An application of a few lines in the place of ours: what is tested is the process around it.
PROGRAM = """
import asyncio, json, sys
from service.server import run_server
from service.settings import Settings

class App:
    draining = False
    refusals = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            if "broken" in sys.argv:
                await send({"type": "lifespan.startup.failed", "message": "no model"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("closed", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                pass
            return
        if scope["path"] == "/slow":
            print("slow", flush=True)
            await asyncio.sleep(float(scope["query_string"] or b"0.6"))
        status = 503 if scope["path"] == "/readyz" and self.draining else 200
        answer = {"client": scope["client"], "refusals": self.refusals}
        body = json.dumps(answer).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

def drain(app):
    app.draining = True

def refused(app, reason):
    app.refusals += 1

sys.exit(run_server(Settings(**json.loads(sys.argv[1])), App, begin_draining=drain, on_refusal=refused))
"""


class Server:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[str], place: str) -> None:
        self.process, self.place = process, place
        self.port = int(place.rpartition(":")[2]) if place.startswith("http") else 0

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)

    def wait_for(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word


def launch(*words: str, **settings: Any) -> subprocess.Popen[str]:
    """Start the process."""
    arguments = [sys.executable, "-c", PROGRAM, json.dumps({"port": 0, **settings}), *words]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        arguments, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


@contextmanager
def running(**settings: Any) -> Iterator[Server]:
    """Run the server until the end of the block, which usually ends it itself."""
    process = launch(**settings)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        match = re.fullmatch(r"Stride32 listens on (\S+|unix socket \S+) \(models are loading; /readyz .*\)\n", line)
        assert match, line + process.stderr.read()
        yield Server(process, match[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, Any]:
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    with running() as server:
        idle, busy = server.connect(), server.connect()
        assert get(idle, "/readyz")[0] == 200
        busy.request("GET", "/slow")
        server.wait_for("slow")
        server.process.send_signal(number)
        time.sleep(0.25)
        assert get(idle, "/readyz")[0] == 503
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)
        response = busy.getresponse()
        assert response.status == 200
        assert response.getheader("connection") == "close"
        assert json.loads(response.read())["refusals"] == 0
        assert server.process.wait(5) == 0
        server.wait_for("closed")
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
        idle.close()
        busy.close()


def test_draining_has_an_end() -> None:
    with running(drain_timeout_s=0.5) as server:
        busy = server.connect()
        busy.request("GET", "/slow?60")
        server.wait_for("slow")
        started = time.monotonic()
        server.process.terminate()
        assert server.process.wait(5) == 0
        assert time.monotonic() - started < 2.5
        server.wait_for("closed")
        busy.close()


def test_a_second_signal_ends_at_once() -> None:
    with running() as server:
        busy = server.connect()
        busy.request("GET", "/slow?60")
        server.wait_for("slow")
        server.process.terminate()
        time.sleep(0.3)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(2) == 128 + signal.SIGINT
        busy.close()


def test_websockets_are_told_that_the_server_goes() -> None:
    with running(drain_timeout_s=1.0) as server, socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
        server.process.terminate()
        received = b""
        with suppress(ConnectionError):
            while piece := client.recv(65536):
                received += piece
        assert received[:4] == b"\x88" + received[1:2] + (1001).to_bytes(2, "big")
        assert server.process.wait(5) == 0


def test_a_taken_port_gives_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = launch(port=taken.getsockname()[1])
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert stdout == ""
    assert re.fullmatch(r"error: expected to listen on 127.0.0.1:\d+, got: .*in use.*\n", stderr, re.IGNORECASE), stderr


def test_an_application_that_cannot_start_gives_1() -> None:
    process = launch("broken")
    process.communicate(timeout=30)
    assert process.returncode == 1


def test_a_unix_socket_replaces_a_dead_one_and_not_a_living_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with running(uds=str(path)) as server:
        assert path.stat().st_mode & 0o777 == 0o660
        second = launch(uds=str(path))
        assert "already in use" in second.communicate(timeout=30)[1]
        assert second.returncode == 1
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        server.process.terminate()
        assert server.process.wait(5) == 0
        assert not path.exists()


def test_headers_of_a_proxy_are_believed_only_when_it_is_trusted() -> None:
    for trusted, expected in (("", "127.0.0.1"), ("127.0.0.1", "203.0.113.9")):
        with running(trusted_proxies=trusted, max_connections_per_client=1) as server:
            connection = server.connect()
            status, answer = get(connection, "/", **{"X-Forwarded-For": "203.0.113.9"})
            assert (status, answer["client"][0]) == (200, expected)
            other = server.connect()
            other.request("GET", "/")
            assert other.getresponse().status == (200 if trusted else 503)
            assert get(connection, "/")[1]["refusals"] == (0 if trusted else 1)
            connection.close()
            other.close()
