"""A deadline for clients that read nothing of what they asked for; HTTP and WebSockets have it in common."""

from __future__ import annotations

import asyncio

from service.connections import ConnectionGate


class StalledReaderDeadline(asyncio.Protocol):
    """Put before a protocol of uvicorn: aborts a connection whose client has read nothing for a while."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    gate: ConnectionGate
    _stall_timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """The client reads more slowly than we write: stop the application, and give the client a deadline."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.gate.limits.write_stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._end_stall()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._end_stall()
        super().connection_lost(exc)

    def _end_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
