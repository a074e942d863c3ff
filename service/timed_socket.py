"""A socket that http.client can use and whose every step ends at one deadline.

A plain socket's timeout begins anew with each receive, so a host that sends a byte now and then, in its headers or in
its body, holds a thread for as long as it likes.
"""

from __future__ import annotations

import io
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class TimedSocket:
    """Stands for a connected socket in an ``http.client.HTTPConnection``.

    Args:
        sock: connected; whoever made it closes it, for the connection lets go of it before its answer is read.
        deadline: on the monotonic clock, seconds. From then on every step raises TimeoutError.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._sock.settimeout(time_left(self._deadline))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader of what comes."""
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._sock, self._deadline))

    def close(self) -> None:
        """Leave the socket to whoever made it."""


class _TimedReader(io.RawIOBase):
    """Receives from a socket until a deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(time_left(self._deadline))
        return self._sock.recv_into(buffer)


def time_left(deadline: float) -> float:
    """Return the seconds left; raises TimeoutError when none are."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("too slow")
    return left
