"""Waiting for the processes of a run, which come and go, and for threads of this one."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from multiprocessing.connection import Connection


class Listening:
    """Says whose messages can be read. The system is told of a connection once, not at every wait: with a dozen
    processes the telling would cost more than the messages."""

    def __init__(self) -> None:
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._connections: list[Connection] = []
        self._selector = self._watch([])

    def wait(self, connections: list[Connection], timeout_s: float) -> list[Connection]:
        """Return those connections that have something to be read, or have ended; none when the time is over or a
        thread has called ``wake``."""
        if connections != self._connections:
            self._selector.close()
            self._selector = self._watch(connections)
        ready = []
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                self._woken.recv(4096)
            else:
                ready.append(key.data)
        return ready

    def wake(self) -> None:
        """End a wait; called by any thread."""
        # A full socket wakes as well, and a closed one has nobody to wake.
        with suppress(OSError):
            self._waker.send(b"1")

    def close(self) -> None:
        """Let go of what it waits with; the connections stay."""
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _watch(self, connections: list[Connection]) -> selectors.BaseSelector:
        # Anew, for a new process may have the descriptor of the one whose place it takes.
        selector = selectors.DefaultSelector()
        selector.register(self._woken, selectors.EVENT_READ)
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ, connection)
        self._connections = connections
        return selector
