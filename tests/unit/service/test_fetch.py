from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import fetch
from service.errors import (
    BodyTooLargeError,
    CancelledWorkError,
    DeadlineError,
    ForbiddenError,
    InvalidParameterError,
)
from service.fetch import FetchFailedError, ImageFetcher, is_public

PICTURE = b"\x89PNG" + bytes(5000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        where = {
            "/once": "/picture",
            "/away": "http://other.example/picture",
            "/inside": "http://127.0.0.1/picture",
            "/round": "/round",
            "/file": "file:///etc/passwd",
        }.get(self.path)
        if where is not None:
            self.send_response(302)
            self.send_header("Location", where)
            self.end_headers()
        elif self.path.startswith("/picture"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(PICTURE)))
            self.end_headers()
            self.wfile.write(PICTURE)
        elif self.path == "/drip":
            self.drip(b"HTTP/1.1 200 OK\r\n\r\n")
        elif self.path == "/drip-head":
            self.drip(b"HTTP/1.1 200 OK\r\nX-Long: ")
        elif self.path == "/drip-chunks":
            self.drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n")
        elif self.path == "/silent":
            STOP.wait(5)
        else:
            self.send_error(404)

    def drip(self, head: bytes, piece: bytes = b"x") -> None:
        self.wfile.write(head)
        while not STOP.wait(0.05):
            try:
                self.wfile.write(piece)
            except OSError:
                break

    def log_message(self, format: str, *args: object) -> None:
        del format, args


STOP = threading.Event()


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def fetcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageFetcher]:
    STOP.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setitem(fetch._PORTS, "http", server.server_port)
    made = ImageFetcher(
        ["pictures.example"],
        max_bytes=10_000,
        resolver=lambda host, port: ["127.0.0.1"],
        allowed=lambda address: address == "127.0.0.1",
    )
    yield made
    made.close()
    STOP.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("path", ["/picture", "/picture?size=1", "/once"])
def test_gives_what_is_at_an_allowed_address(fetcher: ImageFetcher, path: str) -> None:
    assert fetcher.fetch(f"http://pictures.example{path}", soon()) == PICTURE


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/away", ForbiddenError),
        ("/inside", ForbiddenError),
        ("/file", InvalidParameterError),
        ("/round", FetchFailedError),
        ("/missing", FetchFailedError),
    ],
)
def test_redirects_follow_the_same_rules(fetcher: ImageFetcher, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        fetcher.fetch(f"http://pictures.example{path}", soon())


def test_bounds_size_and_time(fetcher: ImageFetcher) -> None:
    fetcher.max_bytes = 4000
    with pytest.raises(BodyTooLargeError):
        fetcher.fetch("http://pictures.example/picture", soon())


@pytest.mark.parametrize("path", ["/drip", "/drip-head", "/drip-chunks", "/silent"])
def test_a_host_that_drips_is_left_at_the_deadline(fetcher: ImageFetcher, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"pictures\.example"):
        fetcher.fetch(f"http://pictures.example{path}", soon(0.25))
    assert time.monotonic() - began < 1


def test_nothing_is_asked_after_the_deadline() -> None:
    asked: list[str] = []

    def ask(host: str, port: int) -> list[str]:
        asked.append(host)
        return []

    fetcher = ImageFetcher(["a.example"], max_bytes=10, resolver=ask)
    with pytest.raises(DeadlineError):
        fetcher.fetch("http://a.example/", soon(-1))
    assert not asked


def test_a_name_that_nobody_resolves_holds_no_request() -> None:
    """Nor do those that find all threads at it."""
    held = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        held.wait(5)
        raise OSError("no such name")

    async def run() -> list[object]:
        fetcher = ImageFetcher(["a.example"], max_bytes=10, resolver=resolve)
        try:
            gets = [fetcher.get("http://a.example/", soon(0.2)) for _ in range(fetch.THREADS + 4)]
            return await asyncio.gather(*gets, return_exceptions=True)
        finally:
            held.set()
            fetcher.close()

    began = time.monotonic()
    results = asyncio.run(run())
    assert time.monotonic() - began < 2
    assert len(results) == fetch.THREADS + 4
    assert all(isinstance(result, DeadlineError) for result in results)


def test_a_client_that_goes_away_ends_the_wait(fetcher: ImageFetcher) -> None:
    async def gone() -> dict[str, str]:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def run() -> None:
        with pytest.raises(CancelledWorkError):
            await fetcher.get("http://pictures.example/silent", soon(), gone)

    began = time.monotonic()
    asyncio.run(run())
    STOP.set()
    assert time.monotonic() - began < 2


def test_the_watch_ends_with_the_picture(fetcher: ImageFetcher) -> None:
    async def stays() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def run() -> None:
        assert await fetcher.get("http://pictures.example/picture", soon(), stays) == PICTURE
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    [
        "http://user:password@pictures.example/a",
        "ftp://pictures.example/a",
        "file:///etc/passwd",
        "//pictures.example/a",
        "pictures.example/a",
        "http://pictures.example/\r\nHost: evil",
        "http://pictures.example:99999/",
        "http://pictures.example/ a",
        "http://[::1/",
        "",
    ],
)
def test_refuses_what_is_no_plain_address(address: str) -> None:
    with pytest.raises(InvalidParameterError):
        ImageFetcher(["pictures.example"], max_bytes=10).check(address)


@pytest.mark.parametrize("address", ["http://pictures.example:22/", "https://evil.example/", "http://127.0.0.1/"])
def test_refuses_other_hosts_and_ports(address: str) -> None:
    with pytest.raises(ForbiddenError):
        ImageFetcher(["pictures.example"], max_bytes=10).check(address)


def test_is_off_by_default() -> None:
    with pytest.raises(ForbiddenError, match="fetches no addresses"):
        ImageFetcher([], max_bytes=10).check("http://pictures.example/")


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    fetcher = ImageFetcher(["a.example"], max_bytes=10, resolver=lambda host, port: ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(ForbiddenError, match="public"):
        fetcher.fetch("http://a.example/", soon(1))


PRIVATE = """127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 ::1 fe80::1%eth0
fc00::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: :: ::127.0.0.1 ::8.8.8.8 64:ff9b:1::7f00:1 64:ff9b:1::808:808
fec0::1 192.0.0.8 192.0.0.9 192.0.0.170 ::ffff:192.0.0.8 64:ff9b::c000:8 2001:db8::1 2001::1 ff0e::1 4000::1"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "192.0.1.1"]
)
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)
