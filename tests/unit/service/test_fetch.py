from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service import fetch
from service.errors import BodyTooLargeError, ForbiddenError, InvalidParameterError
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
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b"x")
                self.wfile.flush()
                if STOP.wait(0.1):
                    break
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        del format, args


STOP = threading.Event()


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
    assert fetcher.fetch(f"http://pictures.example{path}", 5) == PICTURE


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
        fetcher.fetch(f"http://pictures.example{path}", 5)


def test_bounds_size_and_time(fetcher: ImageFetcher) -> None:
    fetcher.max_bytes = 4000
    with pytest.raises(BodyTooLargeError):
        fetcher.fetch("http://pictures.example/picture", 5)
    with pytest.raises(FetchFailedError):
        fetcher.fetch("http://pictures.example/drip", 0.3)


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
        fetcher.fetch("http://a.example/", 1)


PRIVATE = """127.0.0.1 10.0.0.1 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1 ::1 fe80::1%eth0
fc00::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: ::"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)
