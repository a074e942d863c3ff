"""HTTP/1.1 on the wire: uvicorn's protocol with the bounds that a server on an open port needs.

uvicorn and httptools parse, and refuse most ambiguous framing (two lengths, a length beside chunks, bad chunk sizes).
Added here: deadlines of the head and of a reader that stalls, limits of the head while it arrives, limits of
connections, bounded trailers and pipelines, and a bounded end for a body that nobody wants any more. The body's own
size and deadline are the application's business, which knows the route.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any

import httptools
import orjson
from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.connections import ConnectionGate
from service.errors import ErrorReply

# Requests of one connection that may wait behind the one that is answered. Browsers do not pipeline at all.
MAX_PIPELINED = 32
# Chunk sizes, extensions and trailers may take so many bytes for each byte of body (a chunk of one byte takes 5).
CHUNK_OVERHEAD = 16
# Bytes that are parsed before the limits of a head are looked at; small pictures fit in whole, with their head.
FIRST_PIECE = 65_536
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"upgrade"})


class _RefusedRequest(Exception):  # noqa: N818 (it is not an error of ours)
    """Raised inside the parser's callbacks; carries what the client is told."""

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.message)
        self.reply = reply


class EdgeCycle(RequestResponseCycle):
    """One request and its answer; an answer that comes before the end of the body also decides about the rest."""

    edge: EdgeHttpProtocol
    lingers = False

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """Send a part of the answer; returns uvicorn's own coroutine, for one more around it costs a microsecond."""
        if not self.response_started:
            if self.edge.gate.draining or (self.more_body and not self.edge.rest_is_small(self)):
                self.keep_alive = False  # uvicorn then says "connection: close"
        elif self.more_body and not self.keep_alive and not message.get("more_body", False):
            # uvicorn would close at once; with unread bytes that is a reset, which may overtake the answer.
            self.lingers = self.keep_alive = True
        return super().send(message)


class EdgeHttpProtocol(HttpToolsProtocol):
    """One connection. See the module; ``gate`` is shared by all."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: ConnectionGate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gate = gate
        self.limits = gate.limits
        self._gate_key: str | None = None
        self._active: EdgeCycle | None = None
        # Where the parser is: in a head (of how many bytes so far), or in a body (of how many so far, on the wire too).
        self._in_head = True
        self._head_begun = False
        self._head_bytes = 0
        self._content_length: int | None = 0
        self._body_bytes = 0
        self._wire_bytes = 0
        # Bytes that are still read and thrown away before the connection closes; None while it is in use.
        self._discard_left: int | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    # -- connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection and give it a deadline for its first head, or send it away."""
        super().connection_made(transport)
        self._gate_key = self.gate.key_of(self.client[0] if self.client else None)
        if (reason := self.gate.enter(self._gate_key)) is not None:
            self.gate.on_refusal("connections")
            message = f"expected a free connection, but {reason}; close idle ones or try again"
            self._write_error(ErrorReply(503, "too_many_connections", message, {"Retry-After": "1"}))
            self._discard_left = 0
            transport.close()  # no lingering: it would hold the very thing that is short
            return
        self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_expired)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the place."""
        for timer in (self._head_timer, self._stall_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._stall_timer = self._linger_timer = None
        if self._gate_key is not None:
            self.gate.leave(self._gate_key)
            self._gate_key = None
        super().connection_lost(exc)
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True  # uvicorn tells only the last of several pipelined requests
            self._active.message_event.set()
        self.pipeline.clear()

    def shutdown(self) -> None:
        """Close as soon as nothing is in flight; called when the server ends."""
        if self._active is not None and not self._active.response_complete:
            self._active.keep_alive = False
        else:
            self.transport.close()

    # -- reading

    def data_received(self, data: bytes) -> None:
        """Parse what came; of a head that may turn out too long only a piece at a time."""
        self._unset_keepalive_if_required()
        if self._discard_left is not None:
            self._discard(len(data))
            return
        if self._in_head and len(data) > FIRST_PIECE:
            view = memoryview(data)
            if not self._feed(view[:FIRST_PIECE]):
                return
            self._feed(view[FIRST_PIECE:])
        else:
            self._feed(data)

    def _feed(self, view: bytes | memoryview) -> bool:
        """Parse a piece; return whether the connection goes on with HTTP."""
        was_in_head, cycle = self._in_head, self.cycle
        if not was_in_head:
            self._wire_bytes += len(view)
        try:
            self.parser.feed_data(view)
        except httptools.HttpParserUpgrade:
            return self._upgrade()
        except httptools.HttpParserError as exc:
            refused = exc.__context__
            self._refuse(refused.reply if isinstance(refused, _RefusedRequest) else _malformed(str(exc)))
            return False
        if not self._in_head:
            return self._check_overhead()
        # Only a chunk that has lain in the head from its first byte is known to the byte; of a head that began behind
        # a body, the finished part is counted.
        if was_in_head and cycle is self.cycle:
            self._head_bytes += len(view)
        elif self._head_begun:
            self._head_bytes = len(self.url) + _header_bytes(self.headers)
        return self._check_partial_head()

    def _check_partial_head(self) -> bool:
        """Bound a head that has begun and is not complete, in bytes and in time."""
        if self._head_bytes == 0:
            return True
        reply = None
        if self._head_begun and len(self.url) > self.limits.max_url_bytes:
            reply = self._url_too_long()
        elif self._head_bytes >= self.limits.head_budget:
            reply = self._head_too_large(f"more than {self.limits.max_header_bytes}")
        if reply is not None:
            self._refuse(reply)
            return False
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_expired)
        return True

    def _check_overhead(self) -> bool:
        """Bound chunk extensions and trailers, which are not body and so pass the application's limit."""
        if self._wire_bytes <= CHUNK_OVERHEAD * self._body_bytes + self.limits.head_budget + 65536:
            return True
        self._refuse(_malformed("chunk extensions or trailers are larger than the body"))
        return False

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = self._head_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the head, then let uvicorn start or queue the request."""
        self._in_head = self._head_begun = False
        self._head_bytes = self._body_bytes = self._wire_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        chunked = self._check_head()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _RefusedRequest(_malformed(f"more than {MAX_PIPELINED} pipelined requests"))
        super().on_headers_complete()
        if chunked:
            self.headers = []  # trailers go here and nowhere: they must not become headers of a running request

    def _check_head(self) -> bool:
        """Refuse what is over a limit or has two meanings; return whether the body comes in chunks."""
        limits, hosts, chunked, has_length, upgrades = self.limits, 0, False, False, False
        if len(self.url) > limits.max_url_bytes:
            raise _RefusedRequest(self._url_too_long())
        if len(self.headers) > limits.max_headers:
            raise _RefusedRequest(self._head_too_large(f"{len(self.headers)} lines", f"{limits.max_headers} lines"))
        if (size := _header_bytes(self.headers)) > limits.max_header_bytes:
            raise _RefusedRequest(self._head_too_large(str(size)))
        self._content_length = 0
        for name, value in self.headers:
            if name not in _FRAMING:
                continue
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                has_length, self._content_length = True, int(value)
            elif name == b"upgrade":
                upgrades = True
            else:
                chunked, self._content_length = True, None
                if value.strip().lower() != b"chunked":
                    raise _RefusedRequest(_malformed("the only Transfer-Encoding that is read is chunked"))
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _RefusedRequest(_malformed("only HTTP/1.0 and HTTP/1.1 are spoken"))
        if hosts > 1 or (version == "1.1" and not hosts):
            raise _RefusedRequest(_malformed(f"a request has one Host header, this one {hosts}"))
        if chunked and (version == "1.0" or has_length):
            raise _RefusedRequest(_malformed("chunks need HTTP/1.1 and no Content-Length"))
        if upgrades and self.parser.should_upgrade() and self._should_upgrade() and (chunked or self._content_length):
            raise _RefusedRequest(_malformed("a WebSocket handshake has no body"))
        if self.parser.get_method() == b"CONNECT" or not self.url.startswith((b"/", b"*", b"http://", b"https://")):
            raise _RefusedRequest(_malformed("the request target must be a path"))
        return chunked

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; what follows is the head of another."""
        self._in_head = True
        self._head_bytes = 0
        cycle = self.cycle
        super().on_message_complete()
        if cycle is None:
            return
        cycle.scope["state"]["body_is_here"] = True  # who reads it then needs no deadline
        if cycle.response_complete:
            cycle.more_body = False  # the rest of a body that was answered early has come
            if cycle is self._active and self._discard_left is None:
                self._set_linger_timer(None)
                self._arm_keep_alive()

    # -- answering

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request. uvicorn names the class of its cycles inside a long method; it is changed here instead."""
        cycle.__class__ = EdgeCycle
        assert isinstance(cycle, EdgeCycle)
        cycle.edge = self
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def rest_is_small(self, cycle: EdgeCycle) -> bool:
        """Say whether what is missing of the body is soon read, so that the connection can stay."""
        if cycle.waiting_for_100_continue or self._content_length is None:
            return False  # the client may never send it, or without end
        return self._content_length - self._body_bytes <= self.limits.linger_bytes

    def on_response_complete(self) -> None:
        """Go on with the next request, or bring an unread body to an end."""
        active = self._active
        super().on_response_complete()
        if active is None or not active.more_body or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        if active.lingers:
            self._linger()
        else:
            self._set_linger_timer(self.limits.linger_s)

    def _linger(self) -> None:
        """End our side, and read and throw away a bounded part of theirs so that the answer arrives."""
        self._discard_left = self.limits.linger_bytes
        self._unset_keepalive_if_required()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_linger_timer(self.limits.linger_s)

    def _discard(self, count: int) -> None:
        """Throw bytes away; when there were too many, read no more and wait for the timer."""
        assert self._discard_left is not None
        self._discard_left -= count
        if self._discard_left < 0:
            self.flow.pause_reading()

    def _set_linger_timer(self, seconds: float | None) -> None:
        """Close the connection after so many seconds; None: not any more."""
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._linger_timer = None if seconds is None else self.loop.call_later(seconds, self._close)

    def _arm_keep_alive(self) -> None:
        """Close the connection after its idle time."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    # -- refusing

    def _refuse(self, reply: ErrorReply) -> None:
        """Answer a request that is not passed on, where an answer can be understood, and close."""
        self.gate.on_refusal(reply.code)
        active = self._active
        if active is None or active.response_complete:
            if active is not None and active.more_body:
                self._close()  # the broken request has its answer already
                return
        elif active is not self.cycle or not active.more_body:
            # A later, pipelined request is at fault: its answer must not come before those of the ones before it.
            self.pipeline.clear()
            active.keep_alive = False
            self._discard_left = 0
            return
        elif active.response_started:
            self.transport.abort()
            return
        else:
            active.disconnected = True
            active.message_event.set()
        self._write_error(reply)
        self._linger()

    def _write_error(self, reply: ErrorReply) -> None:
        """Write a whole answer."""
        request_id = secrets.token_hex(8)
        body = reply.body(request_id)
        if self.scope is not None and self.url.startswith(b"/v2"):
            body = orjson.dumps({"error": reply.message})  # the form of the Open Inference Protocol
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        headers += [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", body]))

    def _url_too_long(self) -> ErrorReply:
        limit = self.limits.max_url_bytes
        return ErrorReply(414, "uri_too_long", f"expected an address of at most {limit} bytes, got more; shorten it")

    def _head_too_large(self, found: str, limit: str | None = None) -> ErrorReply:
        limit = limit or f"{self.limits.max_header_bytes} bytes"
        return ErrorReply(431, "headers_too_large", f"expected headers of at most {limit}, got {found}; send fewer")

    def _head_expired(self) -> None:
        """The head did not arrive in time."""
        self._head_timer = None
        if self.transport.is_closing() or self._discard_left is not None:
            return
        if self._head_bytes == 0:
            self.transport.close()
            return
        message = f"expected a request's head within {self.limits.header_timeout_s:g} s, got a part; send it at once"
        self._refuse(ErrorReply(408, "header_timeout", message))

    # -- upgrading, and readers that stall

    def _upgrade(self) -> bool:
        """Hand the connection to the WebSocket protocol; other upgrades are ignored, as HTTP allows."""
        if not self._should_upgrade():
            if self.cycle is not None:
                self.cycle.keep_alive = False  # the parser has dropped what came behind the head
            return True
        if self._active is not None and not self._active.response_complete:
            self._refuse(_malformed("a WebSocket handshake came before the answer to the request ahead of it"))
        elif self.gate.draining:
            message = "expected a running server, but it is stopping; connect again in a moment"
            self._refuse(ErrorReply(503, "draining", message, {"Retry-After": "1"}))
        else:
            self.handle_websocket_upgrade()
            self._gate_key = None  # the WebSocket protocol gives the place back
        return False

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: stop the application, and give the client a deadline."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.limits.write_stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()


def _header_bytes(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the bytes of header lines on the wire."""
    size = 4 * len(headers)
    for name, value in headers:
        size += len(name) + len(value)
    return size


def _malformed(what: str) -> ErrorReply:
    """Return the reply to a request that is not HTTP as we speak it."""
    return ErrorReply(400, "bad_request", f"expected an HTTP/1.1 request, got a malformed one ({what}); correct it")
