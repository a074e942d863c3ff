"""Who asks: API keys compared in constant time, and a rate limit for each key (or address where there are no keys)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from starlette.types import Scope

from service.connections import client_key
from service.errors import ForbiddenError, RateLimitedError, UnauthorizedError
from service.result_links import ResultLinks
from service.settings import MAX_KEY_LENGTH, Settings

ANONYMOUS = "anonymous"
KEY_PROTOCOL = "key."
# Buckets of so many askers are remembered; the one that asked least lately is forgotten.
MAX_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        key_id: opaque name of the key, which owns sessions and jobs; the key cannot be told from it.
        is_admin: whether it may load and unload models.
    """

    key_id: str
    is_admin: bool


class Authenticator:
    """Knows the keys and how often each may ask.

    Args:
        settings: keys, rate.
        clock: seconds; replaced in tests.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._users = _digests(key.get_secret_value() for key in settings.api_keys)
        self._admins = _digests(key.get_secret_value() for key in settings.admin_keys)
        self.required = bool(self._users)
        self.links = ResultLinks(_id_of(digest) for digest in (*self._users, *self._admins))
        self._rate = settings.rate_limit
        self._burst = float(settings.rate_burst or max(1.0, 2 * settings.rate_limit))
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def identify(self, headers: Mapping[str, str]) -> Caller:
        """Return who sends a request with these headers.

        Raises:
            UnauthorizedError: a key is needed and there is none, or it is not known.
        """
        return self._caller(_key_of(headers))

    def identify_link(self, scope: Scope, headers: Mapping[str, str]) -> Caller | None:
        """Return who was given the signed address of a request that has no key; None where it is not signed.

        Raises:
            UnauthorizedError: the signature is not valid.
        """
        if _key_of(headers) is not None:
            return None
        key_id = self.links.key_id_of(scope["method"], scope["path"], scope["query_string"])
        return None if key_id is None else Caller(key_id, is_admin=False)

    def identify_websocket(self, headers: Mapping[str, str]) -> Caller:
        """Return who opens a WebSocket: by header, or by a subprotocol ``key.<base64url>``, for browsers cannot set
        headers; raises as ``identify``."""
        key = _key_of(headers)
        for offered in headers.get("sec-websocket-protocol", "").split(","):
            text = offered.strip()
            if key is None and text.startswith(KEY_PROTOCOL) and len(text) <= 2 * MAX_KEY_LENGTH:
                encoded = text.removeprefix(KEY_PROTOCOL)
                try:
                    key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
                except (binascii.Error, ValueError):
                    key = ""
        return self._caller(key)

    def admit(self, scope: Scope, headers: Mapping[str, str]) -> Caller:
        """Return who sends a request or opens a WebSocket, and count it.

        Raises:
            UnauthorizedError: the key, or the signature of the address, is needed and not known. It counts for the
                client's address, so that keys cannot be tried at any rate.
            RateLimitedError: more requests than allowed.
        """
        try:
            if scope["type"] == "websocket":
                caller = self.identify_websocket(headers)
            else:
                caller = self.identify_link(scope, headers) or self.identify(headers)
        except UnauthorizedError:
            self.check_rate(scope, None)
            raise
        self.check_rate(scope, caller)
        return caller

    def check_rate(self, scope: Scope, caller: Caller | None) -> None:
        """Count a request, or a frame of a WebSocket, for its key, or for its address where there is no key.

        Raises:
            RateLimitedError: more than allowed.
        """
        if not self._rate:
            return
        if caller is not None and caller.key_id != ANONYMOUS:
            self.take(caller.key_id)
        else:
            # One host may own a whole /64 of IPv6, and would otherwise have as many buckets as it likes.
            self.take(client_key(client_address(scope)))

    def require_admin(self, caller: Caller) -> None:
        """Raise ForbiddenError unless the caller may change models."""
        if not caller.is_admin:
            raise ForbiddenError("models are loaded and unloaded with an admin key, this one is none; ask the operator")

    def take(self, name: str) -> None:
        """Take one request from the bucket of a key or address; raises RateLimitedError when it is empty."""
        if not self._rate:
            return
        now = self._clock()
        level, then = self._buckets.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        self._buckets[name] = (max(level - 1, 0.0) if level >= 1 else level, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if level < 1:
            raise RateLimitedError(
                f"at most {self._rate:g} requests a second are allowed, more came; wait as Retry-After says",
                retry_after_s=(1 - level) / self._rate,
            )

    def _caller(self, key: str | None) -> Caller:
        if key is None:
            if self.required:
                raise UnauthorizedError(
                    "an API key is needed, none came; send Authorization: Bearer KEY or X-API-Key: KEY",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            # Who sets admin keys keeps models for those, even while all else is open.
            return Caller(ANONYMOUS, is_admin=not self._admins)
        if not self.required and not self._admins:
            return Caller(ANONYMOUS, is_admin=True)
        # What is too long to be a key is none, and not the key that it may begin with.
        digest = hashlib.sha256((key if len(key) <= MAX_KEY_LENGTH else "").encode()).digest()
        is_admin, is_user = _contains(self._admins, digest), _contains(self._users, digest)
        if not is_admin and not is_user and self.required:
            raise UnauthorizedError(
                "the API key must be one that this server knows, it is not; check it",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if not is_admin and not is_user:
            return Caller(ANONYMOUS, is_admin=False)
        # Without admin keys every key may do everything.
        return Caller(_id_of(digest), is_admin=is_admin or not self._admins)


def client_address(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client = scope.get("client")
    return str(client[0]) if client else "local"


def caller_of(scope: Scope) -> Caller:
    """Return who sends the request; the middleware has put it there."""
    caller: Caller = scope["state"]["caller"]
    return caller


def _key_of(headers: Mapping[str, str]) -> str | None:
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key")


def _digests(keys: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(key.encode()).digest() for key in keys)


def _id_of(digest: bytes) -> str:
    return digest.hex()[:16]


def _contains(known: tuple[bytes, ...], digest: bytes) -> bool:
    """Return whether a digest is known; looks at all of them, whatever it finds."""
    found = False
    for each in known:
        found |= hmac.compare_digest(each, digest)
    return found
