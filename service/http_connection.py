"""One HTTP/1.1 connection from its place at the gate to its end: whose answers it carries, and how it is closed.

uvicorn answers. Added here: the place at the gate, refusals that keep the order of answers, and a bounded end where an
answer comes before the end of its body: the rest is read and thrown away, for closing on unread bytes is a reset, which
may overtake the answer. What comes in is read and judged in protocol.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from uvicorn._types import ASGI3Application, ASGISendEvent
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.connections import ConnectionGate
from service.errors import ErrorReply
from service.refusals import encode_refusal, no_free_connection
from service.stalled_reader import StalledReaderDeadline


class EdgeCycle(RequestResponseCycle):
    """One request and its answer; an answer that comes before the end of the body also decides about the rest."""

    connection: HttpConnection
    lingers = False

    def send(self, message: ASGISendEvent) -> Coroutine[Any, Any, None]:
        """Send a part of the answer; returns uvicorn's own coroutine, for one more around it costs a microsecond."""
        if not self.response_started:
            if self.connection.gate.draining or (self.more_body and not self.connection.rest_is_small(self)):
                self.keep_alive = False  # uvicorn then says "connection: close"
        elif self.more_body and not self.keep_alive and not message.get("more_body", False):
            # uvicorn would close at once; with unread bytes that is a reset, which may overtake the answer.
            self.lingers = self.keep_alive = True
        return super().send(message)


class HttpConnection(StalledReaderDeadline, HttpToolsProtocol):
    """One connection and its answers; ``gate`` is shared by all.

    Attributes:
        discard_left: bytes that are still read and thrown away before it closes; None while it is in use.
        content_length: bytes of the body that is being read, None where it comes in chunks; set by who reads the head.
        body_bytes: how many of them have come.
    """

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
        self.discard_left: int | None = None
        self.content_length: int | None = 0
        self.body_bytes = 0
        self._gate_key: str | None = None
        self._active: EdgeCycle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    # -- its place

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, or send it away."""
        super().connection_made(transport)
        self._gate_key = self.gate.key_of(self.client[0] if self.client else None)
        if (reason := self.gate.enter(self._gate_key)) is not None:
            self.gate.on_refusal("connections")
            self._write_refusal(no_free_connection(reason))
            self.discard_left = 0
            transport.close()  # no lingering: it would hold the very thing that is short

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the place."""
        self._set_linger_timer(None)
        if self._gate_key is not None:
            self.gate.leave(self._gate_key)
            self._gate_key = None
        super().connection_lost(exc)
        if self._active is not None and not self._active.response_complete:
            self._active.disconnected = True  # uvicorn tells only the last of several pipelined requests
            self._active.message_event.set()
        self.pipeline.clear()

    def hand_over(self) -> None:
        """Let the WebSocket protocol have the connection; it gives the place back."""
        self.handle_websocket_upgrade()
        self._gate_key = None

    def shutdown(self) -> None:
        """Close as soon as nothing is in flight; called when the server ends."""
        if self.is_answering:
            assert self._active is not None
            self._active.keep_alive = False
        else:
            self.transport.close()

    # -- its answers

    @property
    def is_answering(self) -> bool:
        """Whether a request has been passed on and is not answered yet."""
        return self._active is not None and not self._active.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """Start a request. uvicorn names the class of its cycles inside a long method; it is changed here instead."""
        cycle.__class__ = EdgeCycle
        assert isinstance(cycle, EdgeCycle)
        cycle.connection = self
        self._active = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self.body_bytes += len(body)
        super().on_body(body)

    def rest_is_small(self, cycle: EdgeCycle) -> bool:
        """Say whether what is missing of the body is soon read, so that the connection can stay."""
        if cycle.waiting_for_100_continue or self.content_length is None:
            return False  # the client may never send it, or without end
        return self.content_length - self.body_bytes <= self.limits.linger_bytes

    def on_message_complete(self) -> None:
        """End a body; the rest of one that was answered early has now come."""
        cycle = self.cycle
        super().on_message_complete()
        if cycle is None:
            return
        cycle.scope["state"]["body_is_here"] = True  # who reads it then needs no deadline
        if cycle.response_complete:
            cycle.more_body = False
            if cycle is self._active and self.discard_left is None:
                self._set_linger_timer(None)
                self._arm_keep_alive()

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

    def refuse(self, reply: ErrorReply) -> None:
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
            self.discard_left = 0
            return
        elif active.response_started:
            self.transport.abort()
            return
        else:
            active.disconnected = True
            active.message_event.set()
        self._write_refusal(reply)
        self._linger()

    def _write_refusal(self, reply: ErrorReply) -> None:
        is_oip = self.scope is not None and self.url.startswith(b"/v2")
        self.transport.write(encode_refusal(reply, self.server_state.default_headers, is_oip=is_oip))

    # -- its end

    def discard(self, count: int) -> None:
        """Throw bytes away; when there were too many, read no more and wait for the timer."""
        assert self.discard_left is not None
        self.discard_left -= count
        if self.discard_left < 0:
            self.flow.pause_reading()

    def _linger(self) -> None:
        """End our side, and read and throw away a bounded part of theirs so that the answer arrives."""
        self.discard_left = self.limits.linger_bytes
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._set_linger_timer(self.limits.linger_s)

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
