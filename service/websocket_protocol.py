"""WebSockets on the wire: uvicorn's protocol with bounds on messages in pieces, on messages that wait, on pings of a
client that does not read, and on the time of one message. The size of a message is bounded by `websockets` itself."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame

from service.connections import ConnectionGate
from service.stalled_reader import StalledReaderDeadline

# Pieces of one message. A client that cuts a picture of 32 MB into pieces of a kilobyte stays within it; one that
# sends empty pieces without end does not.
MAX_FRAGMENTS = 65_536
# Messages that have arrived and that the application has not taken; its credit is far below.
MAX_WAITING = 1024


class EdgeWebSocketProtocol(StalledReaderDeadline, WebSocketsSansIOProtocol):
    """One WebSocket, from the handshake's head on; takes the connection and its place at the gate over from HTTP."""

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
        self._gate_key = ""
        # Bytes of the frames of the message that is on its way, and what of all of it is booked at the gate.
        self._frame_bytes = 0
        self._booked = 0
        self._message_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection over."""
        super().connection_made(transport)
        self._gate_key = self.gate.key_of(self.client[0] if self.client else None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        if self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None
        self.gate.leave(self._gate_key)
        self.gate.messages.add(self._gate_key, -self._booked)
        self._booked = 0
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and hold the client to finishing a message that it has begun."""
        super().data_received(data)
        unfinished = bool(self.frames) or bool(self.conn.reader.buffer)
        if unfinished and self._message_timer is None and not self.close_sent:
            self._message_timer = self.loop.call_later(self.gate.limits.message_timeout_s, self._message_expired)
        elif not unfinished and self._message_timer is not None:
            self._message_timer.cancel()
            self._message_timer = None
        self._book()

    def handle_cont(self, event: Frame) -> None:
        """Count a further piece of a message."""
        self._frame_bytes += len(event.data)
        super().handle_cont(event)

    def handle_text(self, event: Frame) -> None:
        """Count the first piece of a text."""
        self._frame_bytes = len(event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """Count the first piece of a picture."""
        self._frame_bytes = len(event.data)
        super().handle_bytes(event)

    def handle_events(self) -> None:
        """Act on the frames that are complete."""
        super().handle_events()
        if len(self.frames) > MAX_FRAGMENTS:
            self._fail(CloseCode.MESSAGE_TOO_BIG, f"expected at most {MAX_FRAGMENTS} pieces of a message, got more")
        elif self.queue.qsize() > MAX_WAITING:
            self._fail(CloseCode.POLICY_VIOLATION, f"expected at most {MAX_WAITING} waiting messages, got more")
        elif not self.handshake_initiated and len(self.conn.reader.buffer) > self.gate.limits.head_budget:
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        """Pass a whole message on; uvicorn would log a client's broken text with a traceback, as if it were ours."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA, "expected text in UTF-8, got other bytes")
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless earlier answers have not even been read."""
        if not self.writable.is_set():
            self.conn.data_to_send()  # a pong that is never sent is allowed; one that waits in memory is a leak
            return
        super().handle_ping()

    def shutdown(self) -> None:
        """Say that the server goes away (1001), which tells clients to connect to another or later."""
        if self.handshake_complete and not self.close_sent and not self.transport.is_closing():
            self._fail(CloseCode.GOING_AWAY, "the server is stopping")
            return
        super().shutdown()

    def _book(self) -> None:
        """Book what is here of a message that is not whole; many sockets with a picture each would fill the memory."""
        held = 0 if self.close_sent else len(self.conn.reader.buffer) + (self._frame_bytes if self.frames else 0)
        more = held - self._booked
        if more > 0 and not self.gate.messages.fits(self._gate_key, more):
            self._fail(CloseCode.TRY_AGAIN_LATER, "expected room for a message, got too many at once; try again")
            self.conn.reader.buffer.clear()
            more = -self._booked
        self.gate.messages.add(self._gate_key, more)
        self._booked += more

    def _message_expired(self) -> None:
        """A message did not arrive in time; time in which we did not read does not count."""
        self._message_timer = None
        seconds = self.gate.limits.message_timeout_s
        if self.read_paused:
            self._message_timer = self.loop.call_later(seconds, self._message_expired)
            return
        self._fail(CloseCode.POLICY_VIOLATION, f"expected a message within {seconds:g} s of its first byte")

    def _fail(self, code: CloseCode, reason: str) -> None:
        """Tell both sides that this is the end, and close."""
        if self.close_sent or self.transport.is_closing():
            return
        self.stop_keepalive()
        if code is not CloseCode.GOING_AWAY:
            self.gate.on_refusal("websocket")
        self.frames = []
        self.queue.put_nowait({"type": "websocket.disconnect", "code": int(code), "reason": reason})
        self.conn.send_close(int(code), reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
