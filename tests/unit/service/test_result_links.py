"""Signed addresses of results: what opens them, and everything that must not."""

from __future__ import annotations

import hmac
import re
from typing import Any

import pytest

from service import result_links
from service.auth import Authenticator
from service.errors import UnauthorizedError
from service.result_links import LIFETIME_S, STEP_S, ResultLinks
from service.settings import Settings

ALICE, BOB = "0123456789abcdef", "fedcba9876543210"
JOB, OTHER_JOB = "a" * 32, "b" * 32
START_S = 1_700_000_000.0


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    def __init__(self) -> None:
        self.now = START_S

    def __call__(self) -> float:
        return self.now


def path_of(job_id: str = JOB, name: str = "annotated.mp4") -> str:
    return f"/v1/jobs/{job_id}/results/{name}"


def signed(links: ResultLinks, path: str = "", key_id: str = ALICE) -> tuple[str, bytes]:
    """Return path and query of a signed address."""
    address = links.sign(path or path_of(), key_id)
    assert address is not None
    path, _, query = address.partition("?")
    return path, query.encode()


def assert_refused(links: ResultLinks, path: str, query: bytes, words: str = "must be signed") -> None:
    with pytest.raises(UnauthorizedError, match=words):
        links.key_id_of("GET", path, query)


def test_a_signed_address_opens_its_file_for_its_key() -> None:
    links = ResultLinks([BOB, ALICE])
    for key_id in (ALICE, BOB):
        for name in ("tracks.txt", "results.jsonl", "annotated.mp4"):
            assert links.key_id_of("GET", *signed(links, path_of(name=name), key_id)) == key_id


def test_the_address_does_not_tell_the_key() -> None:
    links = ResultLinks([ALICE])
    path, query = signed(links)
    assert ALICE not in path + query.decode()


def test_who_has_no_key_gets_no_address() -> None:
    assert ResultLinks([]).sign(path_of(), "anonymous") is None
    assert ResultLinks([ALICE]).sign(path_of(), BOB) is None


def test_it_holds_for_a_quarter_of_an_hour() -> None:
    clock = Clock()
    links = ResultLinks([ALICE], clock)
    address = signed(links)
    clock.now += LIFETIME_S
    assert links.key_id_of("GET", *address) == ALICE
    clock.now += STEP_S
    assert_refused(links, *address, words="15 minutes")


def test_a_later_time_needs_another_signature() -> None:
    clock = Clock()
    links = ResultLinks([ALICE], clock)
    path, query = signed(links)
    later = re.sub(rb"expires=\d+", b"expires=999999999999", query)
    assert_refused(links, path, later)
    clock.now += 2 * LIFETIME_S
    assert_refused(links, path, later)


@pytest.mark.parametrize("path", [path_of(OTHER_JOB), path_of(name="tracks.txt")])
def test_it_cannot_be_moved_to_another_file_or_job(path: str) -> None:
    links = ResultLinks([ALICE])
    _, query = signed(links)
    assert_refused(links, path, query)


def test_another_process_knows_nothing_of_it() -> None:
    path, query = signed(ResultLinks([ALICE]))
    assert_refused(ResultLinks([ALICE]), path, query)


def test_it_ends_with_its_key() -> None:
    """A server that no longer knows the key refuses, although the secret were the same."""
    links = ResultLinks([ALICE, BOB])
    address = signed(links, key_id=BOB)
    links._key_ids = (ALICE,)
    assert_refused(links, *address)


@pytest.mark.parametrize(
    "change",
    [
        lambda query: query[:-1] + (b"0" if query[-1:] != b"0" else b"1"),
        lambda query: query[:-1],
        lambda query: query.upper(),
        lambda query: query + b"&signature=" + b"0" * 64,
        lambda query: b"signature=" + b"0" * 64 + b"&" + query,
        lambda query: query + b"&expires=999999999999",
        lambda query: query.replace(b"expires=", b"expires=%D9%A3"),
        lambda query: query.replace(b"expires=", b"expires=-"),
        lambda query: query.split(b"&")[1],
        lambda query: b"signature=",
        lambda query: b"signature",
        lambda query: b"signature=\xff\xfe&expires=1",
        lambda query: query + b"&" + b"x=1&" * 1000,
    ],
)
def test_whatever_is_changed_is_refused(change: Any) -> None:
    links = ResultLinks([ALICE])
    path, query = signed(links)
    changed = change(query)
    if b"signature" in changed:
        assert_refused(links, path, changed)
    else:
        assert links.key_id_of("GET", path, changed) is None


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "PUT", "OPTIONS"])
def test_only_reading_is_opened(method: str) -> None:
    links = ResultLinks([ALICE])
    assert links.key_id_of(method, *signed(links)) is None


@pytest.mark.parametrize(
    "path", ["/v1/jobs", f"/v1/jobs/{JOB}", f"/v1/jobs/{JOB}/events", "/v1/sessions", "/v1/models"]
)
def test_nothing_but_results_is_opened(path: str) -> None:
    """Not even with a signature made for that very path."""
    links = ResultLinks([ALICE])
    assert links.key_id_of("GET", *signed(links, path)) is None


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    links = ResultLinks([ALICE, BOB, "c" * 16])
    address = signed(links)
    compared: list[tuple[str, str]] = []
    compare_digest = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return compare_digest(one, other)

    monkeypatch.setattr(result_links.hmac, "compare_digest", compare)
    assert links.key_id_of("GET", *address) == ALICE
    assert len(compared) == 3


def test_a_key_in_the_headers_is_looked_at_instead() -> None:
    key = "alice-0123456789abcdef"
    auth = Authenticator(Settings(_env_file=None, api_keys=(key,)))  # type: ignore[call-arg]
    caller = auth.identify({"x-api-key": key})
    path, query = signed(auth.links, key_id=caller.key_id)
    scope = {"type": "http", "method": "GET", "path": path, "query_string": query}
    found = auth.identify_link(scope, {})
    assert found is not None
    assert (found.key_id, found.is_admin) == (caller.key_id, False)
    assert auth.identify_link(scope, {"x-api-key": "another"}) is None
    assert auth.identify_link(scope | {"query_string": b""}, {}) is None
