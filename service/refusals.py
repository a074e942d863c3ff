"""What a client is told whose request never reaches the application: the replies of the edge, and their bytes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connections import EdgeLimits
from service.errors import ErrorReply


class RefusedRequest(Exception):  # noqa: N818 (it is not an error of ours)
    """Raised inside the parser's callbacks; carries what the client is told."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


def malformed(what: str) -> ErrorReply:
    """Return the reply to a request that is not HTTP as we speak it."""
    return ErrorReply(400, "bad_request", f"expected an HTTP/1.1 request, got a malformed one ({what}); correct it")


def url_too_long(limits: EdgeLimits) -> ErrorReply:
    """Return the reply to an address over the limit."""
    limit = limits.max_url_bytes
    return ErrorReply(414, "uri_too_long", f"expected an address of at most {limit} bytes, got more; shorten it")


def head_too_large(limits: EdgeLimits, found: str, limit: str | None = None) -> ErrorReply:
    """Return the reply to headers over a limit, that of their bytes unless another is given."""
    limit = limit or f"{limits.max_header_bytes} bytes"
    return ErrorReply(431, "headers_too_large", f"expected headers of at most {limit}, got {found}; send fewer")


def head_too_late(limits: EdgeLimits) -> ErrorReply:
    """Return the reply to a head that did not arrive in time."""
    message = f"expected a request's head within {limits.header_timeout_s:g} s, got a part; send it at once"
    return ErrorReply(408, "header_timeout", message)


def no_free_connection(reason: str) -> ErrorReply:
    """Return the reply to a connection that may not stay."""
    message = f"expected a free connection, but {reason}; close idle ones or try again"
    return ErrorReply(503, "too_many_connections", message, {"Retry-After": "1"})


def server_is_stopping() -> ErrorReply:
    """Return the reply to a WebSocket that comes while the server drains."""
    message = "expected a running server, but it is stopping; connect again in a moment"
    return ErrorReply(503, "draining", message, {"Retry-After": "1"})


def encode_refusal(reply: ErrorReply, server_headers: Iterable[tuple[bytes, bytes]], *, is_oip: bool) -> bytes:
    """Return a whole answer as it goes over the wire, after which the connection closes.

    Args:
        reply: what the client is told.
        server_headers: those of every answer.
        is_oip: whether the body has the form of the Open Inference Protocol.
    """
    request_id = secrets.token_hex(8)
    body = orjson.dumps({"error": reply.message}) if is_oip else reply.body(request_id)
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    headers += [
        *server_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", body])
