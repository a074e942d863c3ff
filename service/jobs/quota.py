"""How much of the disk jobs use: counted while bytes arrive, so that no upload can overshoot."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from service.jobs.errors import StorageFullError

# Never filled to the brim: SQLite, logs and the system need some room as well.
MIN_FREE_BYTES = 64 << 20
# The file system is asked again after so many bytes.
_ASK_AGAIN_BYTES = 16 << 20


class DiskQuota:
    """Bytes used by each job, with a limit for their sum; methods may be called from any thread.

    Args:
        folder: on the file system that is filled.
        limit: most bytes of all jobs.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._used = 0
        self._since_asked = _ASK_AGAIN_BYTES

    @property
    def used(self) -> int:
        """Bytes of all jobs."""
        return self._used

    def record(self, job_id: str, size: int) -> None:
        """Say how many bytes a job's files have."""
        with self._lock:
            self._used += size - self._sizes.get(job_id, 0)
            self._sizes[job_id] = size

    def grow(self, job_id: str, size: int) -> None:
        """Count ``size`` more bytes of a job before they are written; raises StorageFullError beyond the limit.

        Does not touch the disk: the event loop calls this.
        """
        with self._lock:
            if self._used + size > self.limit:
                raise self._full()
            self._sizes[job_id] = self._sizes.get(job_id, 0) + size
            self._used += size

    def before_writing(self, size: int) -> None:
        """Raise StorageFullError unless the disk has room for ``size`` bytes; asks it once for some megabytes."""
        with self._lock:
            self._since_asked += size
            if self._since_asked < _ASK_AGAIN_BYTES:
                return
            self._since_asked = 0
        self._check_disk(size)

    def check(self, size: int = 0) -> None:
        """Raise StorageFullError unless ``size`` more bytes have room; asks the disk."""
        with self._lock:
            if self._used + size > self.limit:
                raise self._full()
        self._check_disk(size)

    def release(self, job_id: str) -> None:
        """Forget a job whose files are gone."""
        with self._lock:
            self._used -= self._sizes.pop(job_id, 0)

    def _full(self) -> StorageFullError:
        return StorageFullError(
            f"jobs may use {self.limit} bytes of the disk and use {self._used}; delete finished jobs or wait until "
            "they expire"
        )

    def _check_disk(self, size: int) -> None:
        if shutil.disk_usage(self._folder).free < size + MIN_FREE_BYTES:
            raise StorageFullError("the disk of the server must have room for the job, it is full; try again later")
