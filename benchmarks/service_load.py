"""A load generator that costs little: N keep-alive connections, each of which asks again as soon as it has its answer.

    python benchmarks/service_load.py --port 8000 --path /v1/detect --picture a.jpg --concurrency 8 --pid PID

Run by bench_service.py in a process of its own. It reads the server's processor time from /proc at the first and the
last moment of the measurement, between which every connection is busy or has done its share. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import numpy as np
from service_processes import cpu_seconds

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length: "


class Connection(asyncio.Protocol):
    """One connection with one request at a time, parsed only as far as it must be."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.latencies_s: list[float] = []
        self.failures = 0
        self.sample = b""
        self._received = bytearray()
        self._expected = 0
        self._sent = 0.0
        self._until = 0.0
        self._left = 0
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are none of asyncio's classes.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that closes fails what is asked on this connection."""
        if self._done is not None and not self._done.done():
            self.failures += 1
            self._done.set_result(None)

    async def run(self, *, seconds: float = 0.0, count: int = 0) -> None:
        """Ask until the time is over, or so many times."""
        self.latencies_s.clear()
        self._until, self._left = time.perf_counter() + seconds, count
        self._done = asyncio.get_running_loop().create_future()
        self._ask()
        await self._done

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count an answer when all of it is there."""
        self._received += data
        if not self._expected:
            end = self._received.find(END_OF_HEAD)
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            at = head.find(LENGTH)
            if at < 0:
                raise ValueError(f"the answer must have a Content-Length, got {head[:200]!r}")
            self._expected = end + len(END_OF_HEAD) + int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0])
        if len(self._received) < self._expected:
            return
        now = time.perf_counter()
        self.latencies_s.append(now - self._sent)
        self.failures += not self._received.startswith(b"HTTP/1.1 200")
        self.sample = self.sample or bytes(self._received)
        self._received.clear()
        self._expected = 0
        self._left -= 1
        if now < self._until or self._left > 0:
            self._ask()
        elif self._done is not None:
            self._done.set_result(None)


def http_request(path: str, body: bytes) -> bytes:
    """Return a request with a picture as its body."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def measure(port: int, request: bytes, *, concurrency: int, seconds: float, warm_up: int, pid: int) -> Any:
    """Return what one closed loop of ``concurrency`` connections gave."""
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(request), "127.0.0.1", port))[1] for _ in range(concurrency)
    ]
    await asyncio.gather(*(each.run(count=warm_up) for each in connections))
    own, server, began = time.process_time(), cpu_seconds(pid), time.perf_counter()
    await asyncio.gather(*(each.run(seconds=seconds) for each in connections))
    elapsed = time.perf_counter() - began
    server_s, own_s = cpu_seconds(pid) - server, time.process_time() - own
    latencies_ms = np.concatenate([each.latencies_s for each in connections]) * 1000
    count = len(latencies_ms)
    for each in connections:
        each.transport.close()
    p50, p95, p99 = np.percentile(latencies_ms, (50, 95, 99)).tolist()
    return {
        "requests": count,
        "failures": sum(each.failures for each in connections),
        "per_s": count / elapsed,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "cpu_ms": 1000 * server_s / count,
        "generator_cpu_ms": 1000 * own_s / count,
        "sample": connections[0].sample.partition(END_OF_HEAD)[2].decode("utf-8", "replace"),
    }


def run_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the cheapest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main() -> None:
    """Run one measurement from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warm-up", type=int, default=3, help="requests of each connection that do not count")
    parser.add_argument("--pid", type=int, required=True, help="of the server")
    args = parser.parse_args()
    request = http_request(args.path, args.picture.read_bytes())
    work = measure(
        args.port,
        request,
        concurrency=args.concurrency,
        seconds=args.seconds,
        warm_up=args.warm_up,
        pid=args.pid,
    )
    print(json.dumps(run_loop(work)))


if __name__ == "__main__":
    main()
