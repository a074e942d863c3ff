"""From a request's body to a job in the queue: places are taken before the first byte is read, and given back."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor

from service.errors import InvalidParameterError, UnavailableError
from service.jobs.errors import InvalidVideoError, TooManyJobsError
from service.jobs.folders import JobFolders
from service.jobs.needs import JobSettings
from service.jobs.probe import probe_video
from service.jobs.quota import DiskQuota
from service.jobs.record import JobRecord, JobState
from service.jobs.store import JobStore
from service.jobs.upload import Upload, UploadLimits, check_declared, is_multipart
from service.stream_options import StreamOptions

log = logging.getLogger(__name__)

MAX_NAME = 120
DEFAULT_NAME = "video"
# A place comes free when a job ends; asking again every few seconds is soon enough.
RETRY_AFTER_S = 10.0
# Sending takes the longest of all, and a place in the queue with it: slow senders leave some to others.
MAX_UPLOADS_PER_KEY = 8


def checked_name(name: str | None) -> str:
    """Return what a client calls its job; raises InvalidParameterError for control characters and long texts."""
    if not name or not name.strip():
        return DEFAULT_NAME
    if len(name) > MAX_NAME or not name.isprintable():
        raise InvalidParameterError(
            f"name must be at most {MAX_NAME} printable characters, got {name[:MAX_NAME]!a}; shorten it"
        )
    return name.strip()


class JobIntake:
    """Takes uploads.

    Args:
        store, folders, quota: where jobs go.
        executor: threads that write.
        prober: the thread that looks into videos; a video that takes long there keeps other uploads waiting,
            and nothing else.
        is_open: whether the server still takes jobs.
        wake: called when there is a new job.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        settings: JobSettings,
        store: JobStore,
        folders: JobFolders,
        quota: DiskQuota,
        executor: Executor,
        prober: Executor,
        *,
        is_open: Callable[[], bool],
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings, self._store, self._folders, self._quota = settings, store, folders, quota
        self._executor, self._prober = executor, prober
        self._is_open, self._wake, self._clock = is_open, wake, clock
        self._limits = UploadLimits(
            max_bytes=settings.jobs_max_upload_bytes,
            idle_s=settings.body_timeout_s,
            total_s=settings.jobs_upload_timeout_s,
        )
        self._uploads: Counter[str] = Counter()

    async def receive(
        self,
        stream: AsyncIterator[bytes],
        *,
        content_type: str | None,
        content_length: str | None,
        key_id: str,
        name: str,
        options: StreamOptions,
        wants_video: bool,
    ) -> JobRecord:
        """Return the new job; without one, nothing of the upload is left.

        Raises:
            TooManyJobsError, StorageFullError, BodyTooLargeError, UnsupportedMediaTypeError before the body is read;
            then those of Upload.receive and probe_video.
        """
        is_multipart(content_type)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, check_declared, content_length, self._limits, self._quota)
        with self._place(key_id):
            job_id = secrets.token_hex(16)
            folder = self._folders.of(job_id)
            upload = Upload(
                folder,
                job_id,
                limits=self._limits,
                quota=self._quota,
                executor=self._executor,
                is_open=self._is_open,
            )
            try:
                size = await upload.receive(stream, content_type)
            except BaseException:
                upload.abandon(functools.partial(self._forget, job_id))
                raise
            record = JobRecord(
                id=job_id,
                key_id=key_id,
                name=name,
                state=JobState.QUEUED,
                phase=None,
                options=options.canonical().decode(),
                wants_video=wants_video,
                video_bytes=size,
                created_at=self._clock(),
            )
            # Shielded: the upload is whole, so from here on there is a job or nothing, whoever still waits for it.
            return await asyncio.shield(loop.run_in_executor(self._prober, self._accept, record))

    @contextlib.contextmanager
    def _place(self, key_id: str) -> Iterator[None]:
        """Hold a place in the queue while an upload comes in; raises TooManyJobsError."""
        settings = self._settings
        waiting = self._store.counts()[JobState.QUEUED] + self._uploads.total()
        if waiting >= settings.jobs_max_queued:
            raise TooManyJobsError(
                f"at most {settings.jobs_max_queued} jobs may wait, as many do; try again later",
                retry_after_s=RETRY_AFTER_S,
            )
        mine = self._store.unfinished_of(key_id) + self._uploads[key_id]
        if mine >= settings.jobs_max_per_key:
            raise TooManyJobsError(
                f"a key may have {settings.jobs_max_per_key} waiting and running jobs, yours has {mine}; wait for one "
                "or cancel it",
                retry_after_s=RETRY_AFTER_S,
            )
        if self._uploads[key_id] >= MAX_UPLOADS_PER_KEY:
            raise TooManyJobsError(
                f"a key may send {MAX_UPLOADS_PER_KEY} videos at a time, yours does; wait for one of them",
                retry_after_s=RETRY_AFTER_S,
            )
        self._uploads[key_id] += 1
        try:
            yield
        finally:
            self._uploads[key_id] -= 1
            if not self._uploads[key_id]:
                del self._uploads[key_id]

    # --- in a thread ---

    def _accept(self, record: JobRecord) -> JobRecord:
        """Look into the video and write the job into the queue; a video that is refused is removed."""
        folder, settings = self._folders.of(record.id), self._settings
        try:
            facts = probe_video(
                folder.source,
                name=record.name,
                max_pixels=settings.max_pixels,
                max_duration_s=settings.jobs_max_duration_s,
                should_stop=lambda: not self._is_open(),
            )
            record = dataclasses.replace(record, frames_total=facts.frames)
            self._store.add(record)
        except BaseException as exc:
            self._forget(record.id)
            if not self._is_open() and isinstance(exc, InvalidVideoError):
                raise UnavailableError(
                    "the server must be running to take a video, it is stopping; send it again", code="draining"
                ) from exc
            raise
        self._wake()
        return record

    def _forget(self, job_id: str) -> None:
        """Remove what a refused or torn upload left."""
        self._folders.of(job_id).remove()
        self._quota.release(job_id)
