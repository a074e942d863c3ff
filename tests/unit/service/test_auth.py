"""Keys and rates: who is known, who may change models, how often each may ask; keys are told to nobody."""

from __future__ import annotations

import base64
import hmac
from typing import Any

import pytest

from service import auth
from service.auth import ANONYMOUS, Authenticator
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from service.settings import MAX_KEY_LENGTH, Settings

ALICE, BOB, ADMIN = "alice-0123456789abcdef", "bob-0123456789abcdef", "admin-0123456789abcdef"
LONGEST = "k" * MAX_KEY_LENGTH


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def authenticator(clock: Clock | None = None, **values: Any) -> Authenticator:
    return Authenticator(Settings(_env_file=None, **values), clock or Clock())


def protocol_of(key: str) -> str:
    return "key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ALICE}"},
        {"authorization": f"bearer   {ALICE} "},
        {"x-api-key": ALICE},
    ],
    ids=["bearer", "lower case and spaces", "own header"],
)
def test_key_comes_in_either_header(headers: dict[str, str]) -> None:
    own = authenticator(api_keys=(ALICE, BOB))
    caller = own.identify(headers)
    assert caller == own.identify({"x-api-key": ALICE})
    assert caller.is_admin  # nobody set admin keys apart


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": ALICE[:-1]},
        {"x-api-key": ALICE + "x"},
        {"x-api-key": "ä" * 20},
        {"x-api-key": "x" * 100_000},
        {"x-api-key": LONGEST + "x"},
        {"authorization": f"Bearer {LONGEST} and more"},
        {"authorization": ALICE},
        {"authorization": f"Basic {ALICE}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {ALICE},{BOB}"},
    ],
    ids=[
        *("none", "empty", "short", "long", "not ASCII", "huge", "longest and one", "longest and more"),
        *("no scheme", "basic", "no key", "two keys"),
    ],
)
def test_no_key_or_another_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UnauthorizedError) as refused:
        authenticator(api_keys=(ALICE, BOB, LONGEST)).identify(headers)
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert ALICE not in str(refused.value)


def test_keys_have_different_opaque_ids() -> None:
    own = authenticator(api_keys=(ALICE, BOB))
    ids = {own.identify({"x-api-key": key}).key_id for key in (ALICE, BOB)}
    assert len(ids) == 2
    assert not any(part in name for name in ids for part in ("alice", "bob", ANONYMOUS))


def test_without_keys_everybody_is_welcome() -> None:
    own = authenticator()
    for headers in ({}, {"x-api-key": "whatever this may be"}):
        assert own.identify(headers).key_id == ANONYMOUS
        assert own.identify(headers).is_admin


@pytest.mark.parametrize(
    ("api_keys", "key", "is_admin"),
    [((ALICE,), ALICE, False), ((ALICE,), ADMIN, True), ((), None, False), ((), ADMIN, True), ((), "unknown", False)],
    ids=["user", "admin", "open to all", "admin where all is open", "unknown where all is open"],
)
def test_admin_keys_keep_models_for_themselves(api_keys: tuple[str, ...], key: str | None, is_admin: bool) -> None:
    own = authenticator(api_keys=api_keys, admin_keys=(ADMIN,))
    caller = own.identify({} if key is None else {"x-api-key": key})
    assert caller.is_admin is is_admin
    if is_admin:
        own.require_admin(caller)
    else:
        with pytest.raises(ForbiddenError):
            own.require_admin(caller)


@pytest.mark.parametrize("key", [ALICE, BOB, "unknown"])
def test_every_known_key_is_compared_in_constant_time(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(known: bytes, digest: bytes) -> bool:
        compared.append(len(known))
        return hmac.compare_digest(known, digest)

    monkeypatch.setattr(auth, "hmac", type("Hmac", (), {"compare_digest": staticmethod(compare)}))
    own = authenticator(api_keys=(ALICE, BOB), admin_keys=(ADMIN,))
    try:
        own.identify({"x-api-key": key})
    except UnauthorizedError:
        assert key == "unknown"
    assert compared == [32, 32, 32]  # digests of all three, whichever it was


@pytest.mark.parametrize(
    ("protocols", "known"),
    [
        (f"stride32, {protocol_of(ALICE)}", True),
        (f"{protocol_of(ALICE)},stride32", True),
        (f"stride32, {protocol_of('someone-0123456789')}", False),
        ("stride32, key.!!!!", False),
        ("stride32, key.", False),
        ("stride32", False),
        ("stride32, key." + "A" * 5000, False),
        (f"stride32, {protocol_of(ALICE)[:-1]}", False),
    ],
    ids=["after", "before", "unknown", "no base64", "empty", "none", "huge", "cut"],
)
def test_browsers_send_the_key_as_a_subprotocol(protocols: str, known: bool) -> None:
    own, headers = authenticator(api_keys=(ALICE,)), {"sec-websocket-protocol": protocols}
    if known:
        assert own.identify_websocket(headers) == own.identify({"x-api-key": ALICE})
    else:
        with pytest.raises(UnauthorizedError):
            own.identify_websocket(headers)


def test_websocket_header_wins_over_subprotocol() -> None:
    headers = {"authorization": f"Bearer {BOB}", "sec-websocket-protocol": protocol_of(ALICE)}
    own = authenticator(api_keys=(ALICE, BOB))
    assert own.identify_websocket(headers) == own.identify({"x-api-key": BOB})


def test_rate_lets_a_burst_through_and_then_so_many_a_second() -> None:
    clock = Clock()
    own = authenticator(clock, rate_limit=2.0, rate_burst=3)
    for _ in range(3):
        own.take("a")
    with pytest.raises(RateLimitedError) as refused:
        own.take("a")
    assert refused.value.headers == {"Retry-After": "1"}
    own.take("b")  # somebody else
    clock.now += 0.5
    own.take("a")
    with pytest.raises(RateLimitedError):
        own.take("a")
    clock.now += 1000.0
    for _ in range(3):  # a long rest saves up no more than the burst
        own.take("a")
    with pytest.raises(RateLimitedError):
        own.take("a")


def test_refused_requests_do_not_put_off_the_next_one() -> None:
    clock = Clock()
    own = authenticator(clock, rate_limit=1.0, rate_burst=1)
    own.take("a")
    for _ in range(9):
        clock.now += 0.1
        with pytest.raises(RateLimitedError):
            own.take("a")
    clock.now += 0.11
    own.take("a")


def test_slow_rate_says_how_long_to_wait() -> None:
    own = authenticator(rate_limit=0.1, rate_burst=1)
    own.take("a")
    with pytest.raises(RateLimitedError) as refused:
        own.take("a")
    assert refused.value.headers == {"Retry-After": "10"}


def test_no_rate_is_no_limit() -> None:
    own = authenticator()
    for _ in range(1000):
        own.take("a")


def test_buckets_of_strangers_do_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_BUCKETS", 10)
    own = authenticator(rate_limit=1.0)
    for number in range(100):
        own.take(str(number))
    assert len(own._buckets) == 10


def test_the_longest_key_is_one() -> None:
    own = authenticator(api_keys=(LONGEST,))
    assert own.identify({"x-api-key": LONGEST}).key_id != ANONYMOUS


RESULT = {"method": "GET", "path": "/v1/jobs", "query_string": b""}


def scope_of(address: str | None, kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "client": None if address is None else (address, 4711), **RESULT}


def test_keys_cannot_be_tried_faster_than_requests_may_come() -> None:
    own = authenticator(api_keys=(ALICE,), rate_limit=1.0, rate_burst=3)
    for kind in ("http", "websocket", "http"):
        with pytest.raises(UnauthorizedError):
            own.admit(scope_of("192.0.2.1", kind), {"x-api-key": "wrong"})
    with pytest.raises(RateLimitedError):
        own.admit(scope_of("192.0.2.1"), {"x-api-key": "wrong"})
    with pytest.raises(RateLimitedError):
        own.admit(scope_of("192.0.2.1"), {})
    # The key's own requests are its own, also from there; and other addresses are others.
    assert own.admit(scope_of("192.0.2.1"), {"x-api-key": ALICE}) == own.identify({"x-api-key": ALICE})
    with pytest.raises(UnauthorizedError):
        own.admit(scope_of("192.0.2.2"), {"x-api-key": "wrong"})


def test_a_key_has_one_rate_from_all_its_addresses() -> None:
    own = authenticator(api_keys=(ALICE,), rate_limit=1.0, rate_burst=2)
    for address in ("192.0.2.1", "192.0.2.2"):
        own.admit(scope_of(address), {"x-api-key": ALICE})
    with pytest.raises(RateLimitedError):
        own.admit(scope_of("192.0.2.3"), {"x-api-key": ALICE})


@pytest.mark.parametrize(
    ("addresses", "are_one"),
    [
        (("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"), True),
        (("2001:db8:1:2::1", "2001:db8:1:3::1"), False),
        (("192.0.2.1", "::ffff:192.0.2.1"), True),
        (("192.0.2.1", "192.0.2.2"), False),
        ((None, None), True),
    ],
    ids=["a /64", "two of them", "mapped", "two hosts", "a Unix socket"],
)
def test_one_host_has_one_rate_whatever_addresses_it_takes(addresses: tuple[str | None, ...], are_one: bool) -> None:
    own = authenticator(rate_limit=1.0, rate_burst=1)
    own.admit(scope_of(addresses[0]), {})
    if are_one:
        with pytest.raises(RateLimitedError):
            own.admit(scope_of(addresses[1]), {})
    else:
        own.admit(scope_of(addresses[1]), {})


def test_keys_stand_in_no_repr() -> None:
    settings = Settings(_env_file=None, api_keys=(ALICE,), admin_keys=(ADMIN,))
    own = Authenticator(settings)
    for text in (repr(settings), str(settings), repr(settings.model_dump()), settings.model_dump_json(),
                 repr(own), repr(vars(own)), repr(own.identify({"x-api-key": ALICE}))):  # fmt: skip
        assert ALICE not in text
        assert ADMIN not in text
