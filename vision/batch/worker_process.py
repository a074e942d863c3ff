"""A child process of the coordinator: started by module name, spoken to over a socket, gone when the coordinator is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

_WATCH_PERIOD_S = 1.0


class WorkerProcess:
    """A running worker.

    Args:
        module: what it runs, as ``python -m`` does; it is given the number of its socket and then ``arguments``.
        fds: file descriptors that it shares, by the same numbers.
        environment: variables that it has beside ours.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], fds: Sequence[int], environment: dict[str, str] | None = None
    ) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno()), *arguments],
                pass_fds=(theirs.fileno(), *fds),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})},
                # Ctrl-C on the terminal is for the coordinator, which ends its workers when it is ready to.
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, message: Any) -> bool:
        """Send a message; False when the process has died, which is noticed elsewhere."""
        try:
            self.connection.send(message)
        except OSError:
            return False
        return True

    def death(self) -> str:
        """Return how a process ended whose connection is closed, in words."""
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code >= 0:
            return f"exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"{name}{', perhaps for lack of memory' if name == 'SIGKILL' else ''}"

    def kill(self) -> None:
        """End the process at once and take its exit code; one that has ended already is fine."""
        self._process.kill()
        self._process.wait()
        self.connection.close()


def connect(fd: int) -> Connection:
    """Return the worker's end of its socket, with the death of the coordinator made its own."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="stride32-parent", daemon=True).start()
    return Connection(fd)


def _watch(parent: int) -> None:
    """End this process once its parent has ended: one that hangs in a damaged file would not read its socket's end.

    Linux could send a signal for it (PR_SET_PDEATHSIG), but does so when the parent's thread ends, too.
    """
    while os.getppid() == parent:
        time.sleep(_WATCH_PERIOD_S)
    os._exit(1)
