"""Server processes of the service's measurements: start, freeze, stop, and what they cost (Linux: /proc)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_S = 180.0
PROC = Path("/proc")


def process_tree(pid: int) -> list[int]:
    """Return the process and all that it started, itself first."""
    found = [pid]
    for parent in found:
        # Threads start processes too, and each has a list of its own.
        for task in (PROC / str(parent) / "task").glob("*/children"):
            found += [int(child) for child in _read(task).split()]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of all below it, also of those that have ended."""
    return sum(_own_cpu_seconds(each) for each in process_tree(pid))


def _own_cpu_seconds(pid: int) -> float:
    # The name in brackets may hold blanks; utime is the 14th field, cutime and cstime are those of ended children.
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS_PER_S if fields else 0.0


def memory_mb(pid: int) -> dict[str, float]:
    """Return MB of a process and all below it: resident now, at most so far, and with shared pages counted once."""
    totals = dict.fromkeys(("rss", "peak", "pss"), 0.0)
    for each in process_tree(pid):
        lines = _read(PROC / str(each) / "status") + _read(PROC / str(each) / "smaps_rollup")
        for name, key in (("VmRSS:", "rss"), ("VmHWM:", "peak"), ("Pss:", "pss")):
            row = next((line for line in lines.splitlines() if line.startswith(name)), "")
            totals[key] += int(row.split()[1]) / 1024 if row else 0.0
    return {key: round(value, 1) for key, value in totals.items()}


def _read(path: Path) -> str:
    """Return a file of /proc, or nothing where the process has gone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server on 127.0.0.1 with its children, ended by ``close``.

    Args:
        command: starts it; ``{port}`` stands for the port.
        ready_path: answers 200 when it is ready.
        environ: further variables; ``{port}`` as well.
        log: where its output goes.
    """

    def __init__(
        self, command: Sequence[str], *, ready_path: str, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self.port = free_port()
        self.log = log
        self._ready_path = ready_path
        own = {name: value.format(port=self.port) for name, value in (environ or {}).items()}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [word.format(port=self.port) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **own},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The first process."""
        return self.process.pid

    def wait(self) -> Self:
        """Return when it is ready; raises RuntimeError where it ended or took too long."""
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._ready_path}", timeout=5) as answer:
                    if answer.status == 200:
                        return self
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.2)
        tail = self.log.read_text(errors="replace")[-2000:]
        self.close()
        raise RuntimeError(f"{self.process.args} must answer {self._ready_path}, it did not:\n{tail}")

    def freeze(self) -> None:
        """Stop it, so that it takes no time from what is measured next; some servers poll while they are idle."""
        for pid in process_tree(self.pid):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in process_tree(self.pid):
            os.kill(pid, signal.SIGCONT)

    def close(self) -> int | None:
        """End it with SIGTERM, or with force after 30 seconds; return its exit code."""
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        # What it leaves behind is in its own session; nothing else is.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.process.wait()


def python() -> str:
    """Return the interpreter that runs this."""
    return sys.executable
