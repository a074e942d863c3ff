"""Which pages may open a WebSocket: browsers send cookies and reach local servers, and ask no CORS questions first."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


def is_origin_allowed(headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Return whether a handshake comes from no browser, from a page of this server, or from an allowed origin.

    Args:
        headers: of the handshake, with lower-case names.
        allowed: origins like ``https://example.org``; ``*`` allows all.

    >>> is_origin_allowed({"origin": "http://localhost:8000", "host": "localhost:8000"}, ())
    True
    >>> is_origin_allowed({"origin": "https://example.org", "host": "localhost:8000"}, ())
    False
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    try:
        page = urlsplit(origin)
        port = page.port or DEFAULT_PORTS.get(page.scheme)
        # The scheme is left to the proxy in front, which may end TLS; host and port must be ours.
        here = urlsplit(f"//{headers.get('host', '')}")
        return page.hostname is not None and page.hostname == here.hostname and port in (here.port or port,)
    except ValueError:
        return False
