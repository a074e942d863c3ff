"""The checks of a request's head when it is whole: its size, its framing, and that it has one meaning only."""

from __future__ import annotations

from service.connections import EdgeLimits
from service.refusals import RefusedRequest, head_too_large, malformed, url_too_long

Headers = list[tuple[bytes, bytes]]

_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding"})


def header_bytes(headers: Headers) -> int:
    """Return the bytes of header lines on the wire."""
    size = 4 * len(headers)
    for name, value in headers:
        size += len(name) + len(value)
    return size


def check_head(url: bytes, headers: Headers, version: str, method: bytes, limits: EdgeLimits) -> int | None:
    """Return the bytes of the body that the head announces, None where it comes in chunks.

    Raises:
        RefusedRequest: it is over a limit, or a server behind or before us could read it in another way.
    """
    if len(url) > limits.max_url_bytes:
        raise RefusedRequest(url_too_long(limits))
    if len(headers) > limits.max_headers:
        raise RefusedRequest(head_too_large(limits, f"{len(headers)} lines", f"{limits.max_headers} lines"))
    if (size := header_bytes(headers)) > limits.max_header_bytes:
        raise RefusedRequest(head_too_large(limits, str(size)))
    length = _check_framing(headers, version)
    if method == b"CONNECT" or not url.startswith((b"/", b"*", b"http://", b"https://")):
        raise RefusedRequest(malformed("the request target must be a path"))
    return length


def _check_framing(headers: Headers, version: str) -> int | None:
    """Return the body's bytes, None for chunks; two readers of the same head must come to the same."""
    hosts, chunked, length = 0, False, None
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            length = int(value)
        else:
            chunked = True
            if value.strip().lower() != b"chunked":
                raise RefusedRequest(malformed("the only Transfer-Encoding that is read is chunked"))
    if version not in ("1.0", "1.1"):
        raise RefusedRequest(malformed("only HTTP/1.0 and HTTP/1.1 are spoken"))
    if hosts > 1 or (version == "1.1" and not hosts):
        raise RefusedRequest(malformed(f"a request has one Host header, this one {hosts}"))
    if chunked and (version == "1.0" or length is not None):
        raise RefusedRequest(malformed("chunks need HTTP/1.1 and no Content-Length"))
    return None if chunked else length or 0
