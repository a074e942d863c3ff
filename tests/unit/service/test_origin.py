from __future__ import annotations

import pytest

from service.errors import ForbiddenError
from service.origin import BrowserGuard, exposure_warning
from service.settings import Settings


def guard(**settings: object) -> BrowserGuard:
    return BrowserGuard(Settings(_env_file=None, **settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "vision:8000", "192.168.1.5"])
def test_a_local_server_answers_to_addresses_and_plain_names(host: str) -> None:
    guard().check({"host": host}, "GET")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.nip.example", "[::1", "a.b:x"])
def test_a_local_server_answers_to_no_name_of_the_internet(host: str) -> None:
    with pytest.raises(ForbiddenError, match="STRIDE32_ALLOWED_HOSTS"):
        guard().check({"host": host}, "GET")


def test_allowed_hosts_are_answered_and_are_all_elsewhere() -> None:
    guard(allowed_hosts=("vision.example",)).check({"host": "vision.example"}, "GET")
    guard(host="0.0.0.0").check({"host": "anything.example"}, "GET")
    with pytest.raises(ForbiddenError):
        guard(host="0.0.0.0", allowed_hosts=("vision.example",)).check({"host": "evil.example"}, "GET")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "WEBSOCKET"])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9000", "null", "http://[", "file://"])
def test_pages_of_others_change_nothing(method: str, origin: str) -> None:
    headers = {"host": "localhost:8000", "origin": origin}
    guard().check(headers, "GET")
    with pytest.raises(ForbiddenError, match="STRIDE32_CORS_ORIGINS"):
        guard().check(headers, method)


def test_own_pages_and_allowed_origins_may() -> None:
    guard().check({"host": "localhost:8000", "origin": "http://localhost:8000"}, "POST")
    # A proxy that ends TLS in front of us.
    named = guard(host="0.0.0.0")
    named.check({"host": "vision.example", "origin": "https://vision.example"}, "WEBSOCKET")
    allowed = guard(cors_origins=("https://page.example",))
    allowed.check({"host": "localhost:8000", "origin": "https://page.example"}, "POST")


@pytest.mark.parametrize(
    ("origin", "host", "is_ours"),
    [
        ("http://127.0.0.1:9999", "127.0.0.1", False),
        ("http://127.0.0.1", "127.0.0.1", True),
        ("http://127.0.0.1:80", "127.0.0.1", True),
        ("https://vision.example", "vision.example", True),
        ("https://vision.example:8443", "vision.example", False),
        ("http://vision.example:443", "vision.example", False),
        ("http://vision.example", "vision.example:80", True),
        ("http://vision.example", "vision.example:8000", False),
        ("http://vision.example:0", "vision.example", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]:9000", "[::1]", False),
        ("app://localhost", "localhost", False),
        ("app://localhost:8000", "localhost:8000", True),
    ],
)
def test_a_page_is_ours_at_our_port_only(origin: str, host: str, is_ours: bool) -> None:
    assert guard().is_origin_allowed(origin, host) is is_ours


@pytest.mark.parametrize(
    ("settings", "is_open"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0", "uds": "/run/x.sock"}, False),
        ({"host": "0.0.0.0", "api_keys": "0123456789abcdef"}, False),
        ({"host": "0.0.0.0", "allowed_hosts": "vision.example"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "192.0.2.1", "admin_keys": "0123456789abcdef"}, True),
    ],
)
def test_a_server_that_strangers_pages_could_use_says_so(settings: dict[str, str], is_open: bool) -> None:
    warning = exposure_warning(Settings(_env_file=None, **settings))  # type: ignore[arg-type]
    assert (warning is not None) is is_open
    assert warning is None or "STRIDE32_ALLOWED_HOSTS" in warning


def test_programs_send_no_origin() -> None:
    guard().check({"host": "localhost:8000"}, "POST")
    guard().check({}, "POST")
