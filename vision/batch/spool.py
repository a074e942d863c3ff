"""A folder for files that a run fetches, which the next run removes if this one is killed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "stride32-batch-"
_LOCK = ".lock"


@contextmanager
def spool_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder for the time of the block, below ``parent`` or where temporary files go.

    It is locked as long as its process lives: folders that nobody holds are those of killed runs, and are removed.
    """
    parent = parent or Path(tempfile.gettempdir())
    for folder in parent.glob(f"{_PREFIX}*"):
        _remove_if_left(folder)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with FileLock(folder / _LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_left(folder: Path) -> None:
    # A folder without its lock file is one that another run is just making.
    if not (folder / _LOCK).is_file():
        return
    try:
        with FileLock(folder / _LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError):
        return  # in use, or another user's
