"""Memory that processes share: decoded pictures go from decoder to inference without a copy through a pipe.

It is anonymous (a memfd where there is one, else an unlinked file): nothing is left behind by a killed run, and the
64 MB that containers give to /dev/shm do not bound it. One process, the coordinator, gives out and takes back; the
others read and write where they are told.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from vision.errors import StateError
from vision.types import ImageArray

# Addresses, not memory: pages are there once they are written to. Less where a process may not have so many.
CAPACITIES = (1 << 36, 1 << 33, 1 << 31)
_ALIGNMENT = 4096
# Blocks of at least this size give their pages back; smaller ones are used again at once.
_LARGE = 16 * 1024 * 1024


class Arena:
    """The coordinator's side: first fit, so that what is in use stays near the beginning.

    Args:
        capacities: bytes; the first that the system agrees to is taken.

    Raises:
        StateError: it agrees to none.
    """

    def __init__(self, capacities: Sequence[int] = CAPACITIES) -> None:
        self.fd, self._map = _map_anonymous(capacities)
        self.capacity = len(self._map)
        self.in_use = 0
        self._sizes: dict[int, int] = {}
        self._starts: list[int] = []

    def allocate(self, size: int) -> int:
        """Return the offset of ``size`` bytes >= 1 that nobody else has; raises StateError when there are none."""
        size = -(-max(size, 1) // _ALIGNMENT) * _ALIGNMENT
        end = 0
        for start in self._starts:
            if start - end >= size:
                break
            end = start + self._sizes[start]
        if end + size > self.capacity:
            raise StateError(f"the shared memory must hold {size} bytes more, it is full; lower max_waiting_mb")
        insort(self._starts, end)
        self._sizes[end] = size
        self.in_use += size
        return end

    def free(self, offset: int) -> None:
        """Take back what ``allocate`` gave."""
        size = self._sizes.pop(offset)
        del self._starts[bisect_left(self._starts, offset)]
        self.in_use -= size
        if size >= _LARGE and hasattr(mmap, "MADV_REMOVE"):
            self._map.madvise(mmap.MADV_REMOVE, offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Copy bytes to an offset that was allocated for as many."""
        self._map[offset : offset + len(data)] = data

    def close(self) -> None:
        """Let the memory go, once the other processes have as well."""
        self._map.close()
        os.close(self.fd)


class ArenaView:
    """What the other processes see of an arena, by the file descriptor they were started with."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)

    def picture(self, offset: int, size_hw: tuple[int, int]) -> ImageArray:
        """Return uint8 [H, W, 3] at an offset, not copied."""
        height, width = size_hw
        pixels = np.frombuffer(self._map, np.uint8, height * width * 3, offset)
        return pixels.reshape(height, width, 3)

    def read(self, offset: int, size: int) -> bytes:
        """Return a copy of bytes."""
        return self._map[offset : offset + size]


def _map_anonymous(capacities: Sequence[int]) -> tuple[int, mmap.mmap]:
    reason = ""
    for capacity in capacities:
        fd = _anonymous_file()
        try:
            os.ftruncate(fd, capacity)
            return fd, mmap.mmap(fd, capacity)
        except OSError as exc:
            os.close(fd)
            reason = exc.strerror or str(exc)
    raise StateError(
        f"shared memory of {capacities[-1] >> 20} MB of addresses must be allowed, got: {reason}; see ulimit -v"
    )


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stride32-batch")
    with tempfile.TemporaryFile(prefix="stride32-") as file:
        return os.dup(file.fileno())
