"""The soak's HTTP client: one connection a request, so that it can be slow, stop in the middle or go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ANSWER_S = 60.0
PIECES = 8


@dataclass(frozen=True)
class Reply:
    """An answer; status 0 where the client did not wait for one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """Return the body as data."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Manner:
    """How a request is sent.

    Attributes:
        chunked: without Content-Length.
        slow_s: time over which the body is spread.
        stop_at: share of the body after which the client goes away; above 1: after all of it, before the answer.
    """

    chunked: bool = False
    slow_s: float = 0.0
    stop_at: float = 0.0


PLAIN = Manner()


async def send(
    port: int,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    manner: Manner = PLAIN,
) -> Reply:
    """Send one request and return the answer.

    Raises:
        OSError, asyncio.IncompleteReadError, TimeoutError: there is none, which nobody asked for.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = {"Host": "localhost", "Connection": "close", **(headers or {})}
        if manner.chunked:
            lines["Transfer-Encoding"] = "chunked"
        else:
            lines["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        async with asyncio.timeout(ANSWER_S):
            reading = asyncio.ensure_future(_read(reader))
            try:
                await _write_body(writer, body, manner, reading)
                if manner.stop_at:
                    return Reply(0)
                return await reading
            finally:
                reading.cancel()
    finally:
        writer.close()


async def _write_body(
    writer: asyncio.StreamWriter, body: bytes, manner: Manner, reading: asyncio.Future[Reply]
) -> None:
    """Write the body in its manner; a server that has answered or closed already need not get the rest."""
    end = min(len(body), int(len(body) * manner.stop_at)) if manner.stop_at else len(body)
    size = max(1, -(-len(body) // PIECES))
    try:
        for start in range(0, end, size):
            if reading.done():
                return
            piece = body[start : min(start + size, end)]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if manner.chunked else piece)
            await writer.drain()
            if manner.slow_s:
                await asyncio.sleep(manner.slow_s / PIECES)
        if manner.chunked and not manner.stop_at:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
    except ConnectionError:
        # What it has answered before decides.
        return


async def _read(reader: asyncio.StreamReader) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    status = int(head[0].split()[1])
    body = b"" if status == 204 else await reader.readexactly(int(headers["content-length"]))
    return Reply(status, headers, body)


def form(field_name: str, content: bytes) -> tuple[bytes, str]:
    """Return a multipart body with one file, and its Content-Type."""
    boundary = "soak-boundary"
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="{field_name}"; filename="a"\r\n\r\n'.encode()
    return start + content + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return count, median and 99th percentile."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "count": len(ordered),
        "p50_ms": round(1000 * ordered[last // 2], 1),
        "p99_ms": round(1000 * ordered[round(last * 0.99)], 1),
    }
