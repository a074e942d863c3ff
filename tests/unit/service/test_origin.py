from __future__ import annotations

import pytest

from service.errors import ForbiddenError
from service.origin import BrowserGuard
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


def test_programs_send_no_origin() -> None:
    guard().check({"host": "localhost:8000"}, "POST")
    guard().check({}, "POST")
