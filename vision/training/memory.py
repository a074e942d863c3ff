"""How much memory this process uses and may use."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from vision.errors import ConfigError

STATM = Path("/proc/self/statm")
MEMINFO = Path("/proc/meminfo")
# cgroup v2, then v1: limit, use
CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
SAMPLE_S = 0.005


def resident_bytes() -> int:
    """Return the memory of this process that lies in RAM; raises ConfigError where the system does not tell."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError as exc:
        raise ConfigError(
            f"auto_batch on the CPU needs {STATM}, which this system does not have; give the batch size instead"
        ) from exc


def available_bytes() -> int:
    """Return the memory that this process may use in all: what it has and what machine and cgroup have left."""
    left = _meminfo("MemAvailable")
    for limit_file, use_file in CGROUPS:
        try:
            limit = int(limit_file.read_text())
            left = min(left, limit - int(use_file.read_text()))
        except (OSError, ValueError):  # not this version of cgroups, or no limit ("max")
            continue
    return resident_bytes() + max(0, left)


def _meminfo(key: str) -> int:
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError as exc:
        raise ConfigError(
            f"auto_batch on the CPU needs {MEMINFO}, which this system does not have; give the batch size instead"
        ) from exc
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


class PeakMemory:
    """Watches the memory of this process from a thread while it is entered; ``peak`` is the most in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.peak = max(self.peak, resident_bytes())

    def __enter__(self) -> Self:
        self.peak = resident_bytes()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
