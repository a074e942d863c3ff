"""An uploaded video to a file, as it streams in: limits hold whatever the request's head says, and memory is flat."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from service.errors import BodyTimeoutError, BodyTooLargeError, UnavailableError, UnsupportedMediaTypeError
from service.jobs.errors import InvalidVideoError
from service.jobs.folders import SOURCE, JobFolder, sync_folder
from service.jobs.quota import DiskQuota
from service.multipart import OVERHEAD_BYTES, SinglePart

FIELD = "video"
# Bytes gathered before a thread writes them: one hop to the thread for a megabyte and not for every packet.
WRITE_BYTES = 1 << 20
# An upload that is slower than this on average is not worth its place.
MIN_BYTES_PER_S = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLimits:
    """What an upload may take.

    Attributes:
        max_bytes: largest video.
        idle_s: longest wait for the next bytes; after as long, the average rate must be MIN_BYTES_PER_S.
        total_s: longest time for all of it.
    """

    max_bytes: int
    idle_s: float
    total_s: float


def is_multipart(content_type: str | None) -> bool:
    """Return whether a body is a form with a file in it, or the file itself.

    Raises:
        UnsupportedMediaTypeError: neither.
    """
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return True
    if kind in ("", "application/octet-stream") or kind.startswith("video/"):
        return False
    raise UnsupportedMediaTypeError(
        f"a video must come as video/*, application/octet-stream or multipart/form-data, got {kind[:100]!r}; set the "
        "Content-Type, such as: curl -H 'Content-Type: video/mp4' --data-binary @clip.mp4"
    )


def check_declared(length: str | None, limits: UploadLimits, quota: DiskQuota) -> None:
    """Raise BodyTooLargeError or StorageFullError for a Content-Length that cannot be taken; nothing was read yet."""
    declared = int(length) if length is not None and length.isascii() and length.isdigit() and len(length) < 19 else 0
    if declared > limits.max_bytes + OVERHEAD_BYTES:
        raise _too_large(limits.max_bytes)
    quota.check(declared)


class Upload:
    """Writes one upload into a job's folder.

    Args:
        folder: of the new job; made here.
        quota: counts the bytes under ``job_id``.
        executor: threads that write.
        is_open: whether the server still takes jobs.
    """

    def __init__(
        self,
        folder: JobFolder,
        job_id: str,
        *,
        limits: UploadLimits,
        quota: DiskQuota,
        executor: Executor,
        is_open: Callable[[], bool],
    ) -> None:
        self._folder, self._job_id = folder, job_id
        self._limits, self._quota, self._executor, self._is_open = limits, quota, executor, is_open
        self._part_path = folder.part(SOURCE)
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._size = 0
        self._step: Future[None] | None = None

    async def receive(self, stream: AsyncIterator[bytes], content_type: str | None) -> int:
        """Write the body to ``folder.source`` and return its size; the file is there, whole and on the disk, or not.

        Raises:
            BodyTooLargeError, BodyTimeoutError, StorageFullError, BadRequestError (multipart syntax),
            UnsupportedMediaTypeError, UnavailableError (the server stops), InvalidVideoError (no bytes).
        """
        part = SinglePart(content_type or "", FIELD) if is_multipart(content_type) else None
        await self._in_thread(self._open)
        await self._read(stream, part)
        if part is not None:
            part.finish()
        if not self._size:
            raise InvalidVideoError("the body must be a video, found no bytes; send the file's content")
        await self._flush()
        await self._in_thread(self._commit)
        return self._size

    def abandon(self, forget: Callable[[], None]) -> None:
        """Close the file and call ``forget`` in a thread, once the step that a thread is doing now is over.

        Not awaited, for the task of the upload may have been cancelled: what it waited for is then still going on.
        """

        def clear() -> None:
            if self._file is not None:
                self._file.close()
            forget()

        def later(_: object) -> None:
            # At the server's end the next start cleans up.
            with suppress(RuntimeError):
                self._executor.submit(clear)

        if self._step is None:
            later(None)
        else:
            self._step.add_done_callback(later)

    async def _read(self, stream: AsyncIterator[bytes], part: SinglePart | None) -> None:
        started, total = time.monotonic(), 0
        chunks = aiter(stream)
        while True:
            passed_s = time.monotonic() - started
            slack_s = min(self._limits.idle_s + total / MIN_BYTES_PER_S, self._limits.total_s) - passed_s
            try:
                async with asyncio.timeout(min(self._limits.idle_s, max(slack_s, 0.0))):
                    data = await anext(chunks, None)
            except TimeoutError:
                raise BodyTimeoutError(
                    f"the body must keep coming, with at least {MIN_BYTES_PER_S} bytes a second and whole in "
                    f"{self._limits.total_s:g} s, got {total} bytes in {time.monotonic() - started:.0f} s; send it "
                    "again, or less of it"
                ) from None
            if data is None:
                return
            total += len(data)
            if total > self._limits.max_bytes + (0 if part is None else OVERHEAD_BYTES):
                raise _too_large(self._limits.max_bytes)
            if not self._is_open():
                raise UnavailableError(
                    "the server must be running to take a video, it is stopping; send it again", code="draining"
                )
            for piece in (data,) if part is None else part.feed(data):
                await self._take(piece)

    async def _take(self, piece: bytes) -> None:
        """Count bytes of the video and keep them until there are enough to write."""
        self._size += len(piece)
        if self._size > self._limits.max_bytes:
            raise _too_large(self._limits.max_bytes)
        self._quota.grow(self._job_id, len(piece))
        self._waiting.append(piece)
        self._waiting_bytes += len(piece)
        if self._waiting_bytes >= WRITE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        pieces, self._waiting, self._waiting_bytes = self._waiting, [], 0
        await self._in_thread(self._write, pieces)

    async def _in_thread(self, work: Callable[..., None], *args: object) -> None:
        self._step = self._executor.submit(work, *args)
        await asyncio.wrap_future(self._step)

    # --- in a thread ---

    def _open(self) -> None:
        self._folder.path.mkdir(mode=0o700)
        self._file = self._part_path.open("wb", buffering=0)

    def _write(self, pieces: list[bytes]) -> None:
        assert self._file is not None
        view = memoryview(b"".join(pieces))
        self._quota.before_writing(len(view))
        while len(view):
            view = view[self._file.write(view) :]

    def _commit(self) -> None:
        """Give the file its name once it is on the disk: a row of the queue never names a torn upload."""
        assert self._file is not None
        os.fsync(self._file.fileno())
        self._file.close()
        self._part_path.replace(self._folder.source)
        sync_folder(self._folder.path)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"a video must have at most {limit} bytes, this one has more; compress it or cut it")
