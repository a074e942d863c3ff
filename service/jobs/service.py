"""All video jobs of a server: its start and end, and what the routes call."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock

from service.errors import ForbiddenError, UnavailableError
from service.jobs.context import Environment
from service.jobs.desk import JobDesk
from service.jobs.events import EventHub, Listener
from service.jobs.folders import JobFolders
from service.jobs.intake import JobIntake
from service.jobs.needs import JobSettings, StreamBuilder
from service.jobs.quota import DiskQuota
from service.jobs.record import JobState
from service.jobs.runner import JobRunner
from service.jobs.store import JobStore
from service.stream_options import StreamOptions, resolved_options
from vision.errors import StateError

log = logging.getLogger(__name__)

Value = TypeVar("Value")

# Threads that write uploads and ask the queue.
IO_THREADS = 4
# Expired jobs are looked for at least so often.
SWEEP_S = 60.0


@dataclass(slots=True, kw_only=True)
class _Parts:
    """What there is between start and close."""

    lock: filelock.BaseFileLock
    prober: Executor
    store: JobStore
    hub: EventHub
    runner: JobRunner
    intake: JobIntake
    desk: JobDesk


class JobService:
    """Video jobs from upload to expiry. ``start`` and all async methods belong to one event loop.

    Args:
        settings: limits and the data folder.
        builder: makes the pipelines; may say UnavailableError while models load, jobs then wait.
        clock: seconds since 1970; replaced in tests.
    """

    def __init__(
        self, settings: JobSettings, builder: StreamBuilder, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._builder, self._clock = settings, builder, clock
        self._is_open = self._is_closing = False
        self._executor: Executor | None = None
        self._parts: _Parts | None = None
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the queue, put back what a killed server left, and begin to work.

        Raises:
            StateError: another server uses the data folder, or the queue in it is damaged or newer.
        """
        self._is_closing = False
        executor = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="stride32-jobs-io")
        prober = ThreadPoolExecutor(1, thread_name_prefix="stride32-jobs-probe")
        open_parts = functools.partial(self._open, executor, prober, EventHub())
        try:
            self._parts = await asyncio.get_running_loop().run_in_executor(executor, open_parts)
        except BaseException:
            executor.shutdown(wait=False)
            prober.shutdown(wait=False)
            raise
        self._executor, self._is_open = executor, True
        self._parts.runner.start()
        self._sweeper = asyncio.create_task(self._sweep_forever(), name="stride32-jobs-sweep")

    def begin_draining(self) -> None:
        """Refuse new uploads and end event streams; uploads and jobs that have begun go on. On the event loop."""
        self._is_open = False
        if self._parts is not None:
            self._parts.hub.close()

    async def close(self, *, drain_s: float = 10.0) -> None:
        """Stop: uploads end in an error, running jobs write a checkpoint and wait for the next start."""
        self.begin_draining()
        self._is_closing = True
        parts, executor, sweeper = self._parts, self._executor, self._sweeper
        if parts is None or executor is None:
            return
        if sweeper is not None:
            sweeper.cancel()
        await asyncio.get_running_loop().run_in_executor(None, _close, parts, executor, drain_s)
        self._parts = self._executor = self._sweeper = None

    @property
    def is_open(self) -> bool:
        """Whether jobs are taken."""
        return self._is_open

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state; for metrics."""
        counts = {} if self._parts is None else self._parts.store.counts()
        return {state.value: counts.get(state, 0) for state in JobState}

    # --- what routes do ---

    async def submit(
        self,
        stream: AsyncIterator[bytes],
        *,
        content_type: str | None,
        content_length: str | None,
        key_id: str,
        name: str,
        options: StreamOptions,
        wants_video: bool,
    ) -> dict[str, Any]:
        """Take an upload and return the status of the new job; raises as JobIntake.receive, or for bad options."""
        parts = self._need()
        if not self._is_open:
            raise UnavailableError("the server is stopping and takes no jobs; try again soon", code="draining")
        if not self._settings.jobs_workers:
            raise ForbiddenError("video jobs are switched off on this server (jobs_workers is 0); ask its operator")
        # Before the upload: a wrong tracker should not cost a gigabyte.
        config = await self._in_thread(self._builder.check, options)
        record = await parts.intake.receive(
            stream,
            content_type=content_type,
            content_length=content_length,
            key_id=key_id,
            name=name,
            # Names and not "the default": what a job does is settled when it is sent.
            options=resolved_options(options, config),
            wants_video=wants_video,
        )
        log.info("job %s waits, %d bytes", record.id, record.video_bytes)
        return await self._in_thread(parts.desk.status, record)

    async def list_of(self, key_id: str, *, state: JobState | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the status of a key's jobs, newest first."""
        return await self._in_thread(self._need().desk.list_of, key_id, state, limit)

    async def get(self, key_id: str, job_id: str) -> dict[str, Any]:
        """Return the status of a job; raises JobNotFoundError."""
        return await self._in_thread(self._need().desk.get, key_id, job_id)

    async def cancel(self, key_id: str, job_id: str) -> dict[str, Any]:
        """Cancel a job and return its status; a running one stops within a frame or two. Raises as JobDesk.cancel."""
        parts = self._need()
        status = await self._in_thread(parts.desk.cancel, key_id, job_id)
        parts.hub.publish(job_id)
        return status

    async def delete(self, key_id: str, job_id: str) -> None:
        """Remove a job and its files; raises JobNotFoundError."""
        parts = self._need()
        await self._in_thread(parts.desk.delete, key_id, job_id)
        parts.hub.publish(job_id)

    async def result(self, key_id: str, job_id: str, name: str) -> Path:
        """Return the place of a finished file; raises JobNotFoundError."""
        return await self._in_thread(self._need().desk.result, key_id, job_id, name)

    async def listen(self, key_id: str, job_id: str) -> Listener:
        """Return a listener to a job's changes, to be closed; raises JobNotFoundError, TooManyJobsError."""
        parts = self._need()
        await self._in_thread(parts.desk.find, key_id, job_id)
        return parts.hub.listen(job_id, key_id)

    # --- start, end, expiry ---

    def _open(self, executor: Executor, prober: Executor, hub: EventHub) -> _Parts:
        """Return the parts, the queue recovered; blocks."""
        settings = self._settings
        folders = JobFolders(settings.data_dir / "jobs")
        with ExitStack() as undo:
            lock = filelock.FileLock(settings.data_dir / "jobs.lock", thread_local=False)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout as exc:
                raise StateError(
                    "a data folder can serve one server, another process uses it; stop that one, or set another "
                    "STRIDE32_DATA_DIR"
                ) from exc
            undo.callback(lock.release)
            store = JobStore(settings.data_dir / "jobs.sqlite3")
            undo.callback(store.close)
            quota = DiskQuota(folders.root, settings.jobs_disk_quota_bytes)
            environment = Environment(settings=settings, store=store, quota=quota, builder=self._builder)
            runner = JobRunner(environment, folders, hub, self._clock)
            intake = JobIntake(
                settings,
                store,
                folders,
                quota,
                executor,
                prober,
                is_open=lambda: not self._is_closing,
                wake=runner.wake,
                clock=self._clock,
            )
            desk = JobDesk(store, folders, quota, runner, retention_s=settings.jobs_retention_s, clock=self._clock)
            desk.restore()
            undo.pop_all()
        return _Parts(lock=lock, prober=prober, store=store, hub=hub, runner=runner, intake=intake, desk=desk)

    async def _sweep_forever(self) -> None:
        parts = self._need()
        while True:
            try:
                for job_id in await self._in_thread(parts.desk.sweep):
                    parts.hub.publish(job_id)
            except Exception:
                log.exception("expired jobs cannot be removed; trying again")
            await asyncio.sleep(min(SWEEP_S, self._settings.jobs_retention_s / 4))

    async def _in_thread(self, work: Callable[..., Value], *args: object) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    def _need(self) -> _Parts:
        if self._parts is None:
            raise UnavailableError("video jobs must be started to be used, the server starts or stops; try again soon")
        return self._parts


def _close(parts: _Parts, executor: Executor, drain_s: float) -> None:
    """Let the threads end, then close the queue; blocks."""
    deadline = time.monotonic() + drain_s
    is_idle = parts.runner.stop(drain_s)
    for each in (parts.prober, executor):
        # Each looks after every packet, or megabyte, whether the server stops; a disk that hangs does not.
        waiting = threading.Thread(target=each.shutdown, daemon=True)
        waiting.start()
        waiting.join(max(1.0, deadline - time.monotonic()))
        is_idle &= not waiting.is_alive()
    if not is_idle:
        # Its thread may yet write to the queue; the process ends soon, and the next start puts the job back.
        log.warning(
            "a video job or upload did not stop within %g s; jobs go on from their last checkpoint at the next start",
            drain_s,
        )
        return
    parts.store.close()
    parts.lock.release()
