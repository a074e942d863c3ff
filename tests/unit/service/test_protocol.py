"""HTTP on the wire, over real sockets: limits of the head, framing, early answers, connections."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from service.connections import ConnectionGate, EdgeLimits, client_key
from service.protocol import MAX_PIPELINED, EdgeHttpProtocol
from service.websocket_protocol import EdgeWebSocketProtocol

LIMITS = EdgeLimits(
    header_timeout_s=0.3,
    message_timeout_s=0.3,
    max_header_bytes=2048,
    max_headers=20,
    max_url_bytes=512,
    max_connections=8,
    max_connections_per_client=8,
    linger_bytes=65536,
    linger_s=0.3,
    write_stall_s=0.3,
)
HEAD = b"Host: a\r\n\r\n"
# The loop that the server runs on, where it is installed.
LOOP = importlib.import_module("uvloop").new_event_loop if importlib.util.find_spec("uvloop") else None


@pytest.fixture(autouse=True)
def _quiet_log() -> None:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body and say how long it was; /early answers first, /slow late, /big with much, /echo by WebSocket."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(message.get("bytes") or message.get("text") or ""))})
        return
    path, length = scope["path"], 0
    if path != "/early":
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            length += len(message["body"])
            if not message["more_body"]:
                break
    if path == "/slow":
        await asyncio.sleep(0.15)
    names = sorted(name.decode() for name, _ in scope["headers"])
    body = b"x" * (8 << 20) if path == "/big" else json.dumps({"path": path, "length": length, "names": names}).encode()
    status = 413 if path == "/early" else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Edge:
    """A listening edge."""

    def __init__(self, port: int, gate: ConnectionGate, state: ServerState, refusals: list[str]) -> None:
        self.port, self.gate, self.state, self.refusals = port, gate, state, refusals

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, data: bytes, timeout: float = 3.0) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        reader, writer = await self.connect()
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        answer = await read_all(reader, timeout)
        writer.close()
        return answer


async def read_all(reader: asyncio.StreamReader, timeout: float = 3.0) -> bytes:
    """Read until the end; a reset is an end, too."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(timeout):
            while piece := await reader.read(65536):
                answer += piece
    return answer


@contextlib.asynccontextmanager
async def edge(limits: EdgeLimits = LIMITS, app: Any = application, **options: Any) -> AsyncIterator[Edge]:
    """Serve an application behind the edge on a free port."""
    refusals: list[str] = []
    gate = ConnectionGate(limits, on_refusal=refusals.append, **options)
    config = uvicorn.Config(
        app,
        ws=partial(EdgeWebSocketProtocol, gate=gate),
        ws_max_size=100_000,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_keep_alive=1,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: EdgeHttpProtocol(config, state, {}, gate=gate), "127.0.0.1", 0)
    try:
        yield Edge(server.sockets[0].getsockname()[1], gate, state, refusals)
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.sleep(0.01)


def run(test: Callable[[Edge], Awaitable[None]], limits: EdgeLimits = LIMITS, **options: Any) -> None:
    """Run an asynchronous test against an edge of its own."""

    async def main() -> None:
        async with edge(limits, **options) as server:
            await test(server)

    with asyncio.Runner(loop_factory=LOOP) as runner:
        runner.run(main())


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def body(answer: bytes) -> Any:
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


REFUSED_HEADS = {
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
    "the same length twice": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "list of lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\nabc", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
    "overflowing length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nabc", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
    ),
    "chunks and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400,
    ),
    "coding before chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "coding without chunks": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nabc", 400),
    "almost chunked": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "bad chunk size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", 400),
    "negative chunk size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc", 400),
    "huge chunk": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\x002\r\n\r\n", 400),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "address without a path": (b"GET http://evil HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "bytes in the path": (b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "long path": (b"GET /" + b"a" * 600 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "endless path": (b"GET /" + b"a" * 100_000, 414),
    "large header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2100 + b"\r\n\r\n", 431),
    "endless header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000, 431),
    "endless header name": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a" * 100_000, 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 25 + b"\r\n", 431),
    "endless headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 50_000, 431),
    "blank lines without end": (b"\r\n" * 50_000, 431),
    "handshake with a body": (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 99\r\n\r\n", 400,
    ),
}  # fmt: skip


def test_heads_that_are_refused() -> None:
    async def check(server: Edge) -> None:
        answers = await asyncio.gather(*(server.exchange(data) for data, _ in REFUSED_HEADS.values()))
        found = {name: status(answer) for name, answer in zip(REFUSED_HEADS, answers, strict=True)}
        assert found == {name: expected for name, (_, expected) in REFUSED_HEADS.items()}
        for answer in answers:
            assert b"connection: close" in answer.lower()
            error = body(answer)["error"]
            assert set(error) == {"code", "message", "request_id"}
        assert len(server.refusals) == len(REFUSED_HEADS)
        assert status(await server.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\n" + HEAD)) == 200
        await settled(server)

    run(check, replace(LIMITS, max_connections=100, max_connections_per_client=100))


async def settled(server: Edge, seconds: float = 1.0) -> None:
    """Wait until the server has forgotten all connections; fails if it does not."""
    end = time.monotonic() + seconds
    while server.gate.total and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert server.gate.total == 0
    assert not server.gate._by_client
    assert not server.state.connections


def test_errors_under_v2_have_the_form_of_that_protocol() -> None:
    async def check(server: Edge) -> None:
        answer = await server.exchange(b"GET /v2/models HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 25 + b"\r\n")
        assert isinstance(body(answer)["error"], str)

    run(check)


def test_an_exact_fit_is_served() -> None:
    async def check(server: Edge) -> None:
        path = b"/" + b"a" * 511
        filler = b"X: " + b"b" * (2048 - 9 - 5 - 19 - 2) + b"\r\n"  # with Host, Connection and separators: 2048
        head = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + filler + b"\r\n"
        assert status(await server.exchange(head)) == 200

    run(check)


def test_a_slow_head_gets_408_and_a_silent_connection_is_closed() -> None:
    async def check(server: Edge) -> None:
        started = time.monotonic()
        slow, silent = await asyncio.gather(server.exchange(b"GET / HTTP/1.1\r\nHos"), server.exchange(b""))
        assert status(slow) == 408
        assert body(slow)["error"]["code"] == "header_timeout"
        assert silent == b""
        assert time.monotonic() - started < 2.0
        await settled(server)

    run(check)


def test_a_head_that_drips_is_not_prolonged() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        answer = asyncio.create_task(read_all(reader))
        started = time.monotonic()
        for byte in b"GET / HTTP/1.1\r\nX: 1\r\nY: 2\r\nZ: 3\r\n":
            if answer.done():
                break
            with contextlib.suppress(ConnectionError):
                writer.write(bytes([byte]))
            await asyncio.sleep(0.03)
        assert status(await answer) == 408
        assert time.monotonic() - started < 1.5
        writer.close()

    run(check)


def test_the_second_head_of_a_connection_has_a_deadline_too() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
        await reader.readuntil(b"}")
        writer.write(b"GET / HT")
        assert status(await read_all(reader)) == 408
        writer.close()

    run(check)


def test_an_idle_connection_is_kept_for_its_time() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
            await reader.readuntil(b"}")
            await asyncio.sleep(0.5)  # beyond the head's deadline, within keep-alive
        writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
        assert status(await reader.readuntil(b"}")) == 200
        writer.close()

    run(check)


def test_trailers_are_no_headers_and_have_an_end() -> None:
    async def check(server: Edge) -> None:
        chunks = (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"
        )
        answer = body(await server.exchange(chunks + b"X-Api-Key: secret\r\n\r\n"))
        assert answer["length"] == 3
        assert "x-api-key" not in answer["names"]
        assert status(await server.exchange(chunks + b"X: " + b"a" * 500_000)) == 400
        assert status(await server.exchange(chunks[:-3] + b"1;" + b"e" * 500_000)) == 400

    run(check)


def test_small_chunks_are_served() -> None:
    async def check(server: Edge) -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await server.exchange(head + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n")
        assert body(answer)["length"] == 40_000

    run(check)


def test_pipelined_requests_keep_their_order() -> None:
    async def check(server: Edge) -> None:
        requests = [b"GET /slow HTTP/1.1\r\n" + HEAD, b"GET /two HTTP/1.1\r\n" + HEAD]
        requests.append(b"GET /three HTTP/1.1\r\nConnection: close\r\n" + HEAD)
        answer = await server.exchange(b"".join(requests))
        assert answer.count(b"HTTP/1.1 200") == 3
        assert answer.index(b'"/slow"') < answer.index(b'"/two"') < answer.index(b'"/three"')

    run(check)


def test_a_broken_pipelined_request_waits_for_the_answer_before_it() -> None:
    async def check(server: Edge) -> None:
        answer = await server.exchange(b"GET /slow HTTP/1.1\r\n" + HEAD + b"GET /two HTTP/9.9\r\n" + HEAD)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert body(answer)["path"] == "/slow"
        flood = await server.exchange(b"GET /slow HTTP/1.1\r\n" + HEAD + (b"GET /n HTTP/1.1\r\n" + HEAD) * 5000)
        assert flood.count(b"HTTP/1.1 200") <= MAX_PIPELINED + 1
        await settled(server)

    run(check)


def test_a_body_that_came_whole_is_said_to_be_here() -> None:
    seen: list[tuple[bool, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        is_here, length, more = scope["state"].get("body_is_here", False), 0, True
        while more:
            message = await receive()
            length, more = length + len(message["body"]), message["more_body"]
            assert not (is_here and more)
        seen.append((is_here, length))
        await application({**scope, "path": "/early"}, receive, send)

    async def check(server: Edge) -> None:
        whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabcdef"
        _reader, writer = await server.connect()
        for pieces in ((whole,), (whole[:-3], whole[-3:]), (whole + whole,)):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0.05)
        writer.close()
        assert seen == [(True, 6), (False, 6), (True, 6), (True, 6)]

    run(check, app=app)


def test_a_broken_chunk_ends_the_request_that_waits_for_it() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        seen.append(message["type"])
        await application({**scope, "path": "/early"}, receive, send)

    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"zz\r\n")
        answer = await read_all(reader)
        assert status(answer) == 400
        assert answer.count(b"HTTP/1.1 4") == 1
        assert seen == ["http.disconnect"]
        writer.close()

    run(check, app=app)


def test_an_early_answer_arrives_although_the_body_goes_on() -> None:
    """The client sends far more than is read, and looks at the answer only when it cannot send any more."""

    def talk(port: int) -> tuple[bytes, float]:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    client.sendall(b"x" * 100_000)
            answer = b""
            with contextlib.suppress(OSError):
                while piece := client.recv(65536):
                    answer += piece
        return answer, time.monotonic() - started

    async def check(server: Edge) -> None:
        answer, seconds = await asyncio.to_thread(talk, server.port)
        assert status(answer) == 413
        assert b"connection: close" in answer
        assert seconds < 2.5
        await settled(server)

    run(check)


def test_after_an_early_answer_a_short_rest_is_read_and_the_connection_kept() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        writer.write(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        assert status(await reader.readuntil(b"}")) == 413
        writer.write(b"x" * 997 + b"GET /next HTTP/1.1\r\n" + HEAD)
        assert b"/next" in await reader.readuntil(b"}")
        await asyncio.sleep(0.4)  # the timer of the rest must be off
        writer.write(b"GET /again HTTP/1.1\r\nConnection: close\r\n" + HEAD)
        assert b"/again" in await read_all(reader)
        writer.close()
        stuck = await server.exchange(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
        assert status(stuck) == 413  # and the connection ends although the rest never comes

    run(check)


def test_a_client_that_waits_for_100_continue_and_is_refused_is_closed() -> None:
    async def check(server: Edge) -> None:
        head = b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
        answer = await server.exchange(head)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        reader, writer = await server.connect()
        writer.write(head.replace(b"/early", b"/"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        writer.write(b"x" * 1000)
        assert b'"length": 1000' in await reader.readuntil(b"}")
        writer.close()

    run(check)


def test_connections_are_limited_in_total_and_by_client() -> None:
    async def check(server: Edge) -> None:
        held = [await server.connect() for _ in range(2)]
        await asyncio.sleep(0.02)
        answer = await server.exchange(b"")
        assert status(answer) == 503
        assert b"retry-after: 1" in answer
        assert body(answer)["error"]["code"] == "too_many_connections"
        held.pop()[1].close()
        await asyncio.sleep(0.05)
        assert status(await server.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\n" + HEAD)) == 200
        assert server.refusals == ["connections"]
        for _, writer in held:
            writer.close()
        await settled(server)

    run(check, replace(LIMITS, header_timeout_s=5, max_connections_per_client=2))
    run(check, replace(LIMITS, header_timeout_s=5, max_connections=2))
    run(check, replace(LIMITS, header_timeout_s=5, max_connections=2), trusted_proxies=("127.0.0.0/8",))


def test_a_trusted_proxy_speaks_for_many() -> None:
    gate = ConnectionGate(replace(LIMITS, max_connections_per_client=1), trusted_proxies=("10.0.0.0/8", "proxy", "::1"))
    assert [gate.enter(gate.key_of("10.1.2.3")) for _ in range(3)] == [None] * 3
    assert gate.enter(gate.key_of("192.0.2.1")) is None
    assert "your address" in str(gate.enter(gate.key_of("::ffff:192.0.2.1")))
    assert gate.enter(gate.key_of(None)) is None
    everybody = ConnectionGate(LIMITS, trusted_proxies=("*",))
    assert everybody.key_of("2001:db8::1") == ""
    assert client_key("not an address") == "not an address"


def test_a_reader_that_stalls_is_cut_off() -> None:
    async def check(server: Edge) -> None:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /big HTTP/1.1\r\n" + HEAD)
        await settled(server, 2.0)
        client.close()

    run(check)


def test_while_draining_answers_close_their_connection() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await server.connect()
        writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
        await reader.readuntil(b"}")
        server.gate.draining = True
        writer.write(b"GET / HTTP/1.1\r\n" + HEAD)
        answer = await read_all(reader)
        assert status(answer) == 200
        assert b"connection: close" in answer
        writer.close()

    run(check)


# -- WebSocket

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 2, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return a frame as a client sends it."""
    first = (0x80 if fin else 0) | reserved | opcode
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([first, mask_bit | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, mask_bit | 126]) + struct.pack("!H", len(payload))
    else:
        head = bytes([first, mask_bit | 127]) + struct.pack("!Q", len(payload))
    return head + b"\x00" * 4 + payload if masked else head + payload


async def open_socket(server: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await server.connect()
    writer.write(HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer


def close_code(data: bytes) -> int:
    """Return the code of the close frame that ends the data."""
    start = data.rindex(b"\x88")
    return int.from_bytes(data[start + 2 : start + 4], "big")


BAD_FRAMES = {
    "unmasked": (frame(b"abc", masked=False), 1002),
    "reserved bits": (frame(b"abc", reserved=0x40), 1002),
    "reserved opcode": (frame(b"abc", opcode=3), 1002),
    "continuation of nothing": (frame(b"abc", opcode=0), 1002),
    "new message inside another": (frame(b"a", fin=False) + frame(b"b"), 1002),
    "fragmented ping": (frame(b"a", opcode=9, fin=False), 1002),
    "long ping": (frame(b"a" * 126, opcode=9), 1002),
    "close of one byte": (frame(b"a", opcode=8), 1002),
    "text that is not UTF-8": (frame(b"\xff\xfe", opcode=1), 1007),
    "too large": (frame(b"a" * 100_001)[:14], 1009),
    "too large in pieces": (frame(b"a" * 60_000, fin=False) + frame(b"a" * 60_000, opcode=0), 1009),
    "64-bit length": (b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"\x00" * 4, 1009),
    "empty pieces without end": (frame(b"", fin=False) + frame(b"", opcode=0, fin=False) * 70_000, 1009),
    "messages without reading": (frame(b"x") * 5_000, 1008),
    "a message that never ends": (frame(b"x" * 100)[:50], 1008),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames_close_with_the_right_code(name: str) -> None:
    data, code = BAD_FRAMES[name]

    async def check(server: Edge) -> None:
        reader, writer = await open_socket(server)
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        assert close_code(await read_all(reader)) == code
        writer.close()
        await settled(server)

    # On a busy machine thousands of pieces take longer than the deadline of a message.
    run(check, LIMITS if "never ends" in name else replace(LIMITS, message_timeout_s=30))


def test_a_websocket_is_served_and_counted() -> None:
    async def check(server: Edge) -> None:
        reader, writer = await open_socket(server)
        assert server.gate.total == 1
        writer.write(frame(b"a" * 70_000))
        assert await reader.readexactly(7) == b"\x81\x0570000"
        await asyncio.sleep(0.5)  # no deadline runs between messages
        writer.write(frame(b"", fin=False) + frame(b"hi", opcode=0))
        assert await reader.readexactly(3) == b"\x81\x012"
        (connection,) = server.state.connections
        connection.shutdown()
        assert close_code(await read_all(reader)) == 1001
        writer.close()
        await settled(server)

    run(check)


def test_messages_in_pieces_have_room_together() -> None:
    async def check(server: Edge) -> None:
        sockets = [await open_socket(server) for _ in range(3)]
        pieces = [
            frame(b"a" * 60_000)[:40_000],
            frame(b"a" * 20_000, fin=False) + frame(b"a" * 20_000, opcode=0)[:19_000],
        ]
        for (_, writer), piece in zip(sockets, pieces, strict=False):
            writer.write(piece)
        async with asyncio.timeout(3):
            while server.gate.messages.total < 78_000:
                await asyncio.sleep(0.005)
        third_reader, third = sockets[2]
        third.write(frame(b"a" * 60_000)[:40_000])
        assert close_code(await read_all(third_reader)) == 1013
        assert server.refusals == ["websocket"]
        # What was begun may be ended, and gives its room back.
        first_reader, first = sockets[0]
        first.write(frame(b"a" * 60_000)[40_000:])
        assert await first_reader.readexactly(7) == b"\x81\x0560000"
        for _, writer in sockets:
            writer.close()
        await settled(server)
        assert server.gate.messages.total == 0

    run(check, replace(LIMITS, message_timeout_s=30, message_bytes=100_000), trusted_proxies=("127.0.0.1",))


def test_pings_of_a_client_that_does_not_read_cost_no_memory() -> None:
    async def check(server: Edge) -> None:
        _, writer = await open_socket(server)
        (connection,) = server.state.connections
        connection.transport.set_write_buffer_limits(high=0)
        connection.writable.clear()
        connection.transport.pause_reading()
        for _ in range(200):
            connection.data_received(frame(b"p" * 125, opcode=9))
        assert connection.transport.get_write_buffer_size() == 0
        writer.close()

    run(check)


def test_a_handshake_behind_a_request_in_flight_is_refused() -> None:
    async def check(server: Edge) -> None:
        answer = await server.exchange(b"GET /slow HTTP/1.1\r\n" + HEAD + HANDSHAKE)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert body(answer)["path"] == "/slow"
        server.gate.draining = True
        assert status(await server.exchange(HANDSHAKE)) == 503
        assert status(await server.exchange(HANDSHAKE.replace(b"websocket", b"h2c"))) == 200
        await settled(server)

    run(check)
