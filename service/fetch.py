"""Pictures by address, where the operator allows hosts for it; off by default.

An address is a way into the operator's own network, so only http and https to allowed hosts are fetched, the host's
addresses are resolved once, each must be public, and the connection goes to the checked address itself: a name that
changes its mind between check and connection gains nothing. Redirects are followed by the same rules.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import SplitResult, urljoin, urlsplit

from service.errors import BodyTooLargeError, ForbiddenError, InvalidParameterError, ServiceError

THREADS = 8
MAX_REDIRECTS = 3
MAX_ADDRESS = 2048
_CHUNK = 64 << 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}

Resolver = Callable[[str, int], list[str]]


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
        parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
        if isinstance(parsed, ipaddress.IPv6Address) and parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return parsed.is_global and not parsed.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


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

    def check(self, address: str) -> SplitResult:
        """Return the parts of an address that may be asked.

        Raises:
            ForbiddenError: fetching is off, or the host is not allowed.
            InvalidParameterError: no address of the web.
        """
        if not self.hosts:
            raise ForbiddenError("this server fetches no addresses; send the picture itself as the body")
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

    def fetch(self, address: str, timeout_s: float) -> bytes:
        """Return what is at the address; blocks, so call it in the pool.

        Raises:
            FetchFailedError: the host cannot be reached, answers with an error, or redirects without end.
            BodyTooLargeError: more bytes than allowed. Otherwise as ``check``.
        """
        deadline = time.monotonic() + timeout_s
        for _ in range(MAX_REDIRECTS + 1):
            parts = self.check(address)
            try:
                answer = self._ask(parts, deadline)
            except (OSError, http.client.HTTPException) as exc:
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
        connection.sock = sock
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
            return self._read(sock, response, deadline)
        finally:
            connection.close()

    def _connect(self, parts: SplitResult, deadline: float) -> socket.socket:
        """Return a connection to an address that was checked, and that is connected to as checked."""
        host, port = parts.hostname or "", _PORTS[parts.scheme]
        addresses = self._resolver(host, port)
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise ForbiddenError("the host of url must have public addresses only, it has others; send the picture")
        sock = socket.create_connection((addresses[0], port), timeout=_left(deadline))
        if parts.scheme == "http":
            return sock
        try:
            return ssl.create_default_context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def _read(self, sock: socket.socket, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """Return the body within the limits of size and time."""
        pieces: list[bytes] = []
        received = 0
        while True:
            # The deadline holds for the whole, or a host that drips bytes would hold a thread for ever.
            # (The connection forgets its socket when the answer ends it, so the socket is held here.)
            sock.settimeout(_left(deadline))
            chunk = response.read1(_CHUNK)
            if not chunk:
                return b"".join(pieces)
            pieces.append(chunk)
            received += len(chunk)
            if received > self.max_bytes:
                raise BodyTooLargeError(f"the picture at url must have at most {self.max_bytes} bytes, it has more")


def _left(deadline: float) -> float:
    """Return the seconds left; raises TimeoutError when none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("too slow")
    return left
