"""Pictures by address, where the operator allows hosts for it; off by default.

An address is a way into the operator's own network, so only http and https to allowed hosts are fetched, the host's
addresses are resolved once, each must be public, and the connection goes to the checked address itself: a name that
changes its mind between check and connection gains nothing. Redirects are followed by the same rules. All of it, from
the name to the last byte, ends at the request's deadline.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from service.errors import (
    BodyTooLargeError,
    CancelledWorkError,
    DeadlineError,
    ForbiddenError,
    InvalidParameterError,
    ServiceError,
)
from service.timed_socket import TimedSocket, time_left

THREADS = 8
MAX_REDIRECTS = 3
MAX_ADDRESS = 2048
_CHUNK = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}

# What the internet has given out of IPv6; all else is of a site, wraps an IPv4 address in ways long given up, or is
# nobody's. NAT64 translates its addresses to the IPv4 address in their last 32 bits.
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Of protocols and no hosts: python counts some of these (a dummy address, anycast) as public.
_PROTOCOL_IPV4 = ipaddress.IPv4Network("192.0.0.0/24")

Resolver = Callable[[str, int], list[str]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class FetchFailedError(ServiceError):
    """The address did not give a picture."""

    status, code = 422, "fetch_failed"


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def is_public(address: str) -> bool:
    """Return whether an address belongs to the public internet, also when it is wrapped as IPv4 in IPv6.

    >>> is_public("93.184.216.34"), is_public("10.1.2.3"), is_public("::ffff:127.0.0.1"), is_public("169.254.169.254")
    (True, False, False, False)
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        else:
            parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    is_given_out = parsed in _GLOBAL_IPV6 if parsed.version == 6 else parsed not in _PROTOCOL_IPV4
    return is_given_out and parsed.is_global and not parsed.is_multicast


class ImageFetcher:
    """Fetches pictures from allowed hosts.

    Args:
        hosts: names that may be asked, exactly; empty switches fetching off.
        max_bytes: largest picture.
        resolver: name and port to addresses; replaced in tests.
        allowed: whether an address may be connected to; replaced in tests.
    """

    def __init__(
        self,
        hosts: Collection[str],
        *,
        max_bytes: int,
        resolver: Resolver = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.max_bytes = max_bytes
        self._resolver = resolver
        self._allowed = allowed
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch")

    def close(self) -> None:
        """End the threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def require_hosts(self) -> None:
        """Raise ForbiddenError where fetching is off."""
        if not self.hosts:
            raise ForbiddenError("this server fetches no addresses; send the picture itself as the body")

    def check(self, address: str) -> SplitResult:
        """Return the parts of an address that may be asked.

        Raises:
            ForbiddenError: fetching is off, or the host is not allowed.
            InvalidParameterError: no address of the web.
        """
        self.require_hosts()
        try:
            parts = urlsplit(address)
            port = parts.port or _PORTS[parts.scheme]
            good = bool(parts.hostname) and len(address) <= MAX_ADDRESS and address.isascii() and address.isprintable()
        except (ValueError, KeyError):
            good, port = False, 0
        if not good or parts.username is not None or parts.password is not None or " " in address:
            raise InvalidParameterError(
                f"url must be http:// or https:// with a host and no user name, got {address[:100]!r}; correct it"
            )
        if (parts.hostname or "").lower() not in self.hosts or port != _PORTS[parts.scheme]:
            raise ForbiddenError(
                f"the host of url must be one that this server may ask, at its usual port; {parts.netloc[:100]!r} is "
                "none; send the picture itself"
            )
        return parts

    async def get(self, address: str, deadline: float, receive: Receive | None = None) -> bytes:
        """Return what is at the address.

        A thread that resolves a name cannot be interrupted: the wait for it ends at the deadline all the same, and what
        has not begun by then does not begin.

        Args:
            address: of the picture.
            deadline: on the monotonic clock, seconds.
            receive: gives the messages of the request, whose body is read: it is watched for a client that goes away.

        Raises:
            CancelledWorkError: the client went away. Otherwise as ``fetch``.
        """
        self.check(address)
        work = asyncio.get_running_loop().run_in_executor(self.pool, self.fetch, address, deadline)
        watch = None if receive is None else asyncio.ensure_future(_disconnect(receive))
        try:
            waits: list[asyncio.Future[Any]] = [work] if watch is None else [work, watch]
            left_s = max(0.0, deadline - time.monotonic())
            await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            if watch is not None and watch.done():
                raise CancelledWorkError("the client went away before its picture was fetched")
            raise _too_slow(address)
        finally:
            # Of a thread that is at work, nobody is left to hear.
            work.cancel()
            if watch is not None:
                watch.cancel()

    def fetch(self, address: str, deadline: float) -> bytes:
        """Return what is at the address; blocks, so call it in the pool.

        Args:
            address: of the picture.
            deadline: on the monotonic clock, seconds.

        Raises:
            DeadlineError: it is not here by then.
            FetchFailedError: the host cannot be reached, answers with an error, or redirects without end.
            BodyTooLargeError: more bytes than allowed. Otherwise as ``check``.
        """
        for _ in range(MAX_REDIRECTS + 1):
            parts = self.check(address)
            try:
                answer = self._ask(parts, deadline)
            except (OSError, http.client.HTTPException) as exc:
                if isinstance(exc, TimeoutError) and time.monotonic() >= deadline:
                    raise _too_slow(address) from exc
                raise FetchFailedError(
                    f"{parts.hostname} must answer with a picture, it did not ({type(exc).__name__}); check the address"
                ) from exc
            if isinstance(answer, bytes):
                return answer
            address = urljoin(address, answer)
        raise FetchFailedError(f"the address must lead to a picture, it redirects more than {MAX_REDIRECTS} times")

    def _ask(self, parts: SplitResult, deadline: float) -> bytes | str:
        """Return the body, or where a redirect leads."""
        sock = self._connect(parts, deadline)
        connection = http.client.HTTPConnection(parts.hostname or "", _PORTS[parts.scheme])
        connection.sock = TimedSocket(sock, deadline)  # all of a socket that it uses
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "stride32"})
            response = connection.getresponse()
            location = response.getheader("location")
            if response.status in _REDIRECTS and location is not None:
                return location
            if response.status != 200:
                raise FetchFailedError(
                    f"{parts.hostname} must answer with a picture, it answered {response.status}; check the address"
                )
            return self._read(response)
        finally:
            connection.close()
            sock.close()

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Return a connection to an address that was checked, and that is connected to as checked."""
        host, port = parts.hostname or "", _PORTS[parts.scheme]
        time_left(deadline)  # requests that waited for a thread until now ask nobody
        addresses = self._resolver(host, port)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise ForbiddenError("the host of url must have public addresses only, it has others; send the picture")
        sock = socket.create_connection((addresses[0], port), timeout=time_left(deadline))
        if parts.scheme == "http":
            return sock
        try:
            # The timeout of a handshake is that of the whole.
            sock.settimeout(time_left(deadline))
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """Return the body within the limit of size."""
        pieces: list[bytes] = []
        received = 0
        while True:
            chunk = response.read1(_CHUNK)
            if not chunk:
                return b"".join(pieces)
            pieces.append(chunk)
            received += len(chunk)
            if received > self.max_bytes:
                raise BodyTooLargeError(f"the picture at url must have at most {self.max_bytes} bytes, it has more")


async def _disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_slow(address: str) -> DeadlineError:
    host = urlsplit(address).hostname
    return DeadlineError(f"the picture must come from {host} in time, it did not; send it itself, or wait longer")
