"""HTTP/1.1 on the wire: what comes over a connection is read here, with the bounds that an open port needs.

uvicorn and httptools parse, and refuse most ambiguous framing (two lengths, a length beside chunks, bad chunk sizes).
Added here: deadlines of the head, its limits while it arrives, bounded trailers and pipelines. A whole head is checked
in request_head.py; the connection, its answers and its end are those of http_connection.py. The body's own size and
deadline are the application's business, which knows the route.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.connections import ConnectionGate
from service.http_connection import HttpConnection
from service.refusals import (
    RefusedRequest,
    head_too_large,
    head_too_late,
    malformed,
    server_is_stopping,
    url_too_long,
)
from service.request_head import check_head, header_bytes

# Requests of one connection that may wait behind the one that is answered. Browsers do not pipeline at all.
MAX_PIPELINED = 32
# Chunk sizes, extensions and trailers may take so many bytes for each byte of body (a chunk of one byte takes 5).
CHUNK_OVERHEAD = 16
# Bytes that are parsed before the limits of a head are looked at; small pictures fit in whole, with their head.
FIRST_PIECE = 65_536


class EdgeHttpProtocol(HttpConnection):
    """Reads one connection. See the module."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        gate: ConnectionGate,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, gate=gate)
        # Where the parser is: in a head (of how many bytes so far), or in a body (of how many so far on the wire).
        self._in_head = True
        self._head_begun = False
        self._head_bytes = 0
        self._wire_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the connection, if it may stay, a deadline for its first head."""
        super().connection_made(transport)
        if self.discard_left is None:
            self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_expired)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect no head any more."""
        self._end_head_timer()
        super().connection_lost(exc)

    # -- bytes

    def data_received(self, data: bytes) -> None:
        """Parse what came; of a head that may turn out too long only a piece at a time."""
        self._unset_keepalive_if_required()
        if self.discard_left is not None:
            self.discard(len(data))
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
            self.refuse(refused.reply if isinstance(refused, RefusedRequest) else malformed(str(exc)))
            return False
        if not self._in_head:
            return self._check_overhead()
        # Only a chunk that has lain in the head from its first byte is known to the byte; of a head that began behind
        # a body, the finished part is counted.
        if was_in_head and cycle is self.cycle:
            self._head_bytes += len(view)
        elif self._head_begun:
            self._head_bytes = len(self.url) + header_bytes(self.headers)
        return self._check_partial_head()

    def _check_partial_head(self) -> bool:
        """Bound a head that has begun and is not complete, in bytes and in time."""
        if self._head_bytes == 0:
            return True
        reply = None
        if self._head_begun and len(self.url) > self.limits.max_url_bytes:
            reply = url_too_long(self.limits)
        elif self._head_bytes >= self.limits.head_budget:
            reply = head_too_large(self.limits, f"more than {self.limits.max_header_bytes}")
        if reply is not None:
            self.refuse(reply)
            return False
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_expired)
        return True

    def _check_overhead(self) -> bool:
        """Bound chunk extensions and trailers, which are not body and so pass the application's limit."""
        if self._wire_bytes <= CHUNK_OVERHEAD * self.body_bytes + self.limits.head_budget + 65536:
            return True
        self.refuse(malformed("chunk extensions or trailers are larger than the body"))
        return False

    def _head_expired(self) -> None:
        """The head did not arrive in time."""
        self._head_timer = None
        if self.transport.is_closing() or self.discard_left is not None:
            return
        if self._head_bytes == 0:
            self.transport.close()
            return
        self.refuse(head_too_late(self.limits))

    def _end_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # -- callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = self._head_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the head, then let uvicorn start or queue the request."""
        self._in_head = self._head_begun = False
        self._head_bytes = self.body_bytes = self._wire_bytes = 0
        self._end_head_timer()
        parser = self.parser
        length = check_head(self.url, self.headers, parser.get_http_version(), parser.get_method(), self.limits)
        if length != 0 and parser.should_upgrade() and self._should_upgrade():
            raise RefusedRequest(malformed("a WebSocket handshake has no body"))
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RefusedRequest(malformed(f"more than {MAX_PIPELINED} pipelined requests"))
        self.content_length = length
        super().on_headers_complete()
        if length is None:
            self.headers = []  # trailers go here and nowhere: they must not become headers of a running request

    def on_message_complete(self) -> None:
        """End a request; what follows is the head of another."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _upgrade(self) -> bool:
        """Hand the connection to the WebSocket protocol; other upgrades are ignored, as HTTP allows."""
        if not self._should_upgrade():
            if self.cycle is not None:
                self.cycle.keep_alive = False  # the parser has dropped what came behind the head
            return True
        if self.is_answering:
            self.refuse(malformed("a WebSocket handshake came before the answer to the request ahead of it"))
        elif self.gate.draining:
            self.refuse(server_is_stopping())
        else:
            self.hand_over()
        return False
