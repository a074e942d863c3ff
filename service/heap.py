"""What the C library does with memory that nobody needs any more: by default it keeps most of it.

glibc gives threads heaps of their own, up to eight for each processor. A server whose threads all handle pictures ends
up with the largest picture, model or job of its life in each of them, which looks like a leak and is one to whoever
pays for the memory. Elsewhere (musl, macOS) nothing is done.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

M_ARENA_MAX = -8
# Two heaps: one for the event loop, and one for threads that mostly compute and seldom meet in the allocator.
ARENAS = 2


def limit_heaps() -> None:
    """Have threads share a few heaps; to be called before they are started. MALLOC_ARENA_MAX of the operator wins."""
    libc = _glibc()
    if libc is not None and "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(M_ARENA_MAX, ARENAS)


def trim_heaps() -> None:
    """Give free memory back to the system: milliseconds, so after large things have gone and not in the event loop."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
