"""Which pages of a browser may ask: a page from anywhere can send requests to a server on its reader's own machine.

Two doors are closed. A page of another origin may not change anything or open a WebSocket (browsers ask no CORS
question before a plain POST). And a server that listens on this machine alone answers to no name of the internet, or a
stranger's page whose name resolves to 127.0.0.1 would count as ours (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from service.errors import ForbiddenError
from service.settings import Settings

DEFAULT_PORTS = {"http": 80, "https": 443}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class BrowserGuard:
    """Looks at Host and Origin.

    Args:
        settings: where the server listens, allowed origins and hosts.
    """

    def __init__(self, settings: Settings) -> None:
        self._origins = settings.cors_origins
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._is_local = settings.uds is None and _is_loopback(settings.host)

    def check(self, headers: Mapping[str, str], method: str) -> None:
        """Raise ForbiddenError for a request that a stranger's page may have sent.

        Args:
            headers: with lower-case names.
            method: "GET" and so on; "WEBSOCKET" for a handshake.
        """
        host = headers.get("host")
        if host is not None and (self._hosts or self._is_local) and not self._is_host_allowed(host):
            raise ForbiddenError(
                f"the name in Host must be one that this server answers to, got {host[:100]!r}; add it to "
                "STRIDE32_ALLOWED_HOSTS if it is yours"
            )
        origin = headers.get("origin")
        if origin is not None and method not in _READING and not self.is_origin_allowed(origin, host or ""):
            raise ForbiddenError(
                "a browser's page may change things here only from this server or an origin in STRIDE32_CORS_ORIGINS; "
                "add the page's origin there"
            )

    def is_origin_allowed(self, origin: str, host: str) -> bool:
        """Return whether a page of that origin belongs to this server, reached as ``host``, or is allowed."""
        if "*" in self._origins or origin in self._origins:
            return True
        try:
            page, here = urlsplit(origin), urlsplit(f"//{host}")
            usual = DEFAULT_PORTS.get(page.scheme)
            page_port = usual if page.port is None else page.port
            # The scheme is left to the proxy in front, which may end TLS; host and port must be ours. A Host without a
            # port is one at the usual port of the page's scheme, for another port would be named.
            here_port = usual if here.port is None else here.port
        except ValueError:
            return False
        return page.hostname is not None and page.hostname == here.hostname and None is not page_port == here_port

    def _is_host_allowed(self, host: str) -> bool:
        """Return whether a name is allowed, or cannot be a stranger's: an address, or a name without a dot."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts or "*" in self._hosts:
            return True
        return self._is_local and ("." not in name or _is_address(name))


def exposure_warning(settings: Settings) -> str | None:
    """Return what to tell at start about a server that a stranger's page could use; None where there is a lock.

    On all addresses the server cannot know its own names, so it answers to any, and a port that is published to one
    machine alone is no lock: a page that is open there reaches it under a name of its own (DNS rebinding).
    """
    has_lock = bool(settings.api_keys or settings.allowed_hosts)
    if has_lock or settings.uds is not None or _is_loopback(settings.host):
        return None
    return (
        f"the server listens on {settings.host} without keys and answers to every name in Host, so whoever reaches it "
        "may use it, and so may any page in a browser that does; set STRIDE32_API_KEYS, or STRIDE32_ALLOWED_HOSTS to "
        "the names of this server"
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
