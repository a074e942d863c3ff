"""What all connections of the server have in common: their limits, how many there are and from where, and whether
the server is draining. Connections (http_connection.py, websocket_protocol.py) ask it; server.py makes and owns it."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, Self

from service.room import SharedRoom

# An early answer is followed by at most so much of the rest of the body, for so long: enough for a client that sends
# everything before it reads, too little to keep us busy.
LINGER_BYTES = 4 << 20
LINGER_S = 2.0
# A client that reads nothing of its answer for so long is gone; a paused video player asks again.
WRITE_STALL_S = 120.0


class EdgeSettings(Protocol):
    """The settings that the edge of the server needs; `service.settings.Settings` has them."""

    @property
    def header_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def body_timeout_s(self) -> float: ...  # noqa: D102
    @property
    def max_header_bytes(self) -> int: ...  # noqa: D102
    @property
    def max_headers(self) -> int: ...  # noqa: D102
    @property
    def max_url_bytes(self) -> int: ...  # noqa: D102
    @property
    def max_connections(self) -> int: ...  # noqa: D102
    @property
    def max_connections_per_client(self) -> int: ...  # noqa: D102
    @property
    def queue_bytes(self) -> int: ...  # noqa: D102
    @property
    def trusted_proxies(self) -> Collection[str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class EdgeLimits:
    """Bounds of one connection and of all; bytes and seconds."""

    header_timeout_s: float = 10.0
    message_timeout_s: float = 20.0
    max_header_bytes: int = 16 << 10
    max_headers: int = 100
    max_url_bytes: int = 8 << 10
    max_connections: int = 1000
    max_connections_per_client: int = 250
    linger_bytes: int = LINGER_BYTES
    linger_s: float = LINGER_S
    write_stall_s: float = WRITE_STALL_S
    message_bytes: int = 1 << 30

    @classmethod
    def from_settings(cls, settings: EdgeSettings) -> Self:
        """Return the limits that the settings ask for."""
        return cls(
            header_timeout_s=settings.header_timeout_s,
            message_timeout_s=settings.body_timeout_s,
            max_header_bytes=settings.max_header_bytes,
            max_headers=settings.max_headers,
            max_url_bytes=settings.max_url_bytes,
            max_connections=settings.max_connections,
            max_connections_per_client=settings.max_connections_per_client,
            message_bytes=settings.queue_bytes,
        )

    @property
    def head_budget(self) -> int:
        """Most bytes of a head on the wire: request line, headers, and what separates them."""
        return self.max_url_bytes + self.max_header_bytes + 64


class ConnectionGate:
    """Counts open connections, in total and per address, and says which may stay.

    Not thread-safe: all calls come from the event loop.

    Args:
        limits: bounds of connections.
        trusted_proxies: addresses (or networks, ``10.0.0.0/8``) that speak for many clients and so have no bound of
            their own; ``*`` for all.
        on_refusal: told the reason of each refusal, for the metrics.
    """

    def __init__(
        self,
        limits: EdgeLimits,
        *,
        trusted_proxies: Collection[str] = (),
        on_refusal: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.limits = limits
        self.on_refusal = on_refusal
        self.draining = False
        self.total = 0
        # What has come of WebSocket messages that are not whole yet.
        self.messages = SharedRoom(limits.message_bytes)
        self._by_client: Counter[str] = Counter()
        self._proxies = _networks(trusted_proxies)

    def key_of(self, address: str | None) -> str:
        """Return what connections from ``address`` are counted under; "" where only the total counts."""
        return "" if self._is_proxy(address) else client_key(address)

    def enter(self, key: str) -> str | None:
        """Count a new connection; return the reason why it must go, or None. It counts until it leaves, in any case."""
        self.total += 1
        if key:
            self._by_client[key] += 1
        if self.total > self.limits.max_connections:
            return f"the server holds {self.limits.max_connections} connections, its limit"
        if key and self._by_client[key] > self.limits.max_connections_per_client:
            return f"your address holds {self.limits.max_connections_per_client} connections, the limit of one"
        return None

    def leave(self, key: str) -> None:
        """Forget a connection that ``enter`` counted."""
        self.total -= 1
        if key:
            self._by_client[key] -= 1
            if not self._by_client[key]:
                del self._by_client[key]  # addresses come and go; the table must not grow with them

    def _is_proxy(self, address: str | None) -> bool:
        """Say whether the address is a trusted proxy's."""
        if not self._proxies or address is None:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)


@lru_cache(maxsize=4096)
def client_key(address: str | None) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one, which a single host may own whole.

    >>> client_key("192.0.2.7"), client_key("2001:db8::1:2"), client_key("::ffff:192.0.2.7"), client_key(None)
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7', '')
    """
    if not address:
        return ""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


def _networks(names: Collection[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the networks of addresses, networks and ``*``; other names (a Unix socket's) bound nobody anyway."""
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for name in names:
        if name == "*":
            networks += [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
            continue
        try:
            networks.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            continue
    return networks
