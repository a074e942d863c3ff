"""The threads that work off the queue. Whatever a job does, its thread takes the next one."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable

from service.errors import INTERNAL, InferenceFailedError, ServiceError, describe_error, without_path
from service.jobs.context import Environment, RunningJob, lower_priority
from service.jobs.errors import InvalidVideoError, JobCancelled, JobInterrupted, StorageFullError
from service.jobs.events import EventHub
from service.jobs.folders import JobFolders
from service.jobs.progress import Progress
from service.jobs.record import JobRecord, JobState, Phase
from service.jobs.render import render
from service.jobs.track import track
from vision.errors import InvalidInputError, LimitExceededError, MediaError

log = logging.getLogger(__name__)

# Errors that pass by themselves (models that are loading or being replaced, a busy device): seconds until the job tries
# again, from its last checkpoint; with progress in between the row begins anew.
RETRY_AFTER_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
_PASSING = (429, 503, 504)
INTERNAL_JOB = "the server failed on this job; its log has the reason"
# How often an idle thread looks into the queue by itself; it is woken when a job comes.
_LOOK_S = 30.0


class JobRunner:
    """Takes the oldest waiting job, ``settings.jobs_workers`` at a time.

    Args:
        environment: what jobs share.
        folders: where their files are.
        hub: hears of every change.
        clock: seconds since 1970.
    """

    def __init__(
        self, environment: Environment, folders: JobFolders, hub: EventHub, clock: Callable[[], float]
    ) -> None:
        self._environment, self._folders, self._hub, self._clock = environment, folders, hub, clock
        self._store = environment.store
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._news = 0
        self._running: dict[str, RunningJob] = {}
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads."""
        for number in range(self._environment.settings.jobs_workers):
            thread = threading.Thread(target=self._work, name=f"stride32-job-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Let running jobs write a checkpoint and go back to the queue; return whether all did so in time. Blocks."""
        self._stopping.set()
        self.wake()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Say that a job waits."""
        with self._wake:
            self._news += 1
            self._wake.notify_all()

    def running(self, job_id: str) -> RunningJob | None:
        """Return a job while a thread has it."""
        return self._running.get(job_id)

    def cancel(self, job_id: str) -> None:
        """Tell a running job that it was cancelled; the queue knows already."""
        job = self._running.get(job_id)
        if job is not None:
            job.cancelled.set()

    # --- in a thread ---

    def _work(self) -> None:
        lower_priority()
        while not self._stopping.is_set():
            news = self._news
            try:
                record = self._store.claim(self._clock())
                if record is not None:
                    self._run(record)
                    continue
            except Exception:
                # The queue itself failed, most likely for want of disk: what runs now is sorted out at the next start.
                log.exception("the job queue cannot be used; trying again in %g s", _LOOK_S)
            self._sleep(news)

    def _run(self, record: JobRecord) -> None:
        """Run a job to its end, whatever that is, and write the end down."""
        job = RunningJob(
            record=record,
            folder=self._folders.of(record.id),
            progress=Progress(wants_video=record.wants_video, notify=lambda: self._hub.publish(record.id)),
            stopping=self._stopping,
        )
        self._running[record.id] = job
        try:
            self._hub.publish(record.id)
            # A request to cancel may have come between the queue and the line above.
            self._note_cancel(job)
            self._execute(job)
        except JobInterrupted:
            self._store.requeue(record.id)
            log.info("job %s waits for the next start", record.id)
        except JobCancelled:
            self._end(job, JobState.CANCELLED)
        except Exception as exc:
            code, message = describe_failure(exc, record.id)
            self._end(job, JobState.FAILED, error=(code, message))
        finally:
            del self._running[record.id]
            self._hub.publish(record.id)

    def _execute(self, job: RunningJob) -> None:
        """Run the phases that are left; errors that pass are waited out."""
        pauses, frames_before = list(RETRY_AFTER_S), job.record.frames_done
        while True:
            try:
                self._run_phases(job)
                return
            except ServiceError as exc:
                self._note_cancel(job)
                if job.record.frames_done > frames_before:
                    pauses, frames_before = list(RETRY_AFTER_S), job.record.frames_done
                if exc.status not in _PASSING or not pauses:
                    raise
                log.warning("job %s tries again in %g s: %s", job.record.id, pauses[0], exc)
                self._pause(job, pauses.pop(0))

    def _run_phases(self, job: RunningJob) -> None:
        record = job.record
        job.check()
        if record.phase is not Phase.RENDER:
            frames, warning = track(job, self._environment)
            if not record.wants_video:
                self._end(job, JobState.SUCCEEDED, frames=frames, warning=warning)
                return
            self._store.begin_render(record.id, frames, warning)  # and counts this attempt as the first at drawing
            record = job.record = self._reread(record)
        frames = record.frames_total or 0
        missing = render(job, self._environment, frames)
        warning = "; ".join(text for text in (record.warning, missing) if text) or None
        self._end(job, JobState.SUCCEEDED, frames=frames, warning=warning)

    def _end(
        self,
        job: RunningJob,
        state: JobState,
        *,
        frames: int | None = None,
        warning: str | None = None,
        error: tuple[str, str] | None = None,
    ) -> None:
        """Write down how a job ended, then remove what is no result, or all of a job that was deleted."""
        job_id = job.record.id
        self._store.finish(job_id, state, self._clock(), frames=frames, warning=warning, error=error)
        log.info("job %s %s%s", job_id, state, "" if error is None else f": {error[1]}")
        try:
            self._clear_up(job)
        except OSError:
            # The job is over all the same, and the next start clears up again.
            log.exception("job %s leaves files that are no results", job_id)

    def _clear_up(self, job: RunningJob) -> None:
        job_id, quota = job.record.id, self._environment.quota
        record = self._store.get(job_id)
        if record is None or record.deleted:
            self._store.delete(job_id)
            job.folder.remove()
            quota.release(job_id)
        else:
            job.folder.keep_results()
            quota.record(job_id, job.folder.size())

    def _sleep(self, news: int) -> None:
        """Wait until there is more news than was known before the thread looked into the queue."""
        with self._wake:
            self._wake.wait_for(lambda: self._news != news or self._stopping.is_set(), _LOOK_S)

    def _reread(self, record: JobRecord) -> JobRecord:
        return self._store.get(record.id) or record

    def _note_cancel(self, job: RunningJob) -> None:
        job.record = self._reread(job.record)
        if job.record.cancel_requested:
            job.cancelled.set()

    def _pause(self, job: RunningJob, seconds: float) -> None:
        """Wait, but not longer than the job may run."""
        end = time.monotonic() + seconds
        while not job.shall_stop and time.monotonic() < end:
            job.cancelled.wait(min(0.2, seconds))


def describe_failure(error: Exception, job_id: str) -> tuple[str, str]:
    """Return code and message of a failed job, without paths of the server; what we did not expect goes to the log."""
    if _is_disk_full(error):
        return (
            StorageFullError.code,
            "the disk of the server must have room for the results, it is full; try again later",
        )
    if isinstance(error, LimitExceededError | MediaError):
        return InvalidVideoError.code, without_path(error)
    if isinstance(error, InvalidInputError):
        return InferenceFailedError.code, without_path(error)
    reply = describe_error(error)
    if reply.code == INTERNAL.code:
        log.error("job %s failed", job_id, exc_info=error)
    return reply.code, INTERNAL_JOB if reply is INTERNAL else reply.message


def _is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is that of a full disk."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
