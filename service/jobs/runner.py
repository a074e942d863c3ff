"""The threads that work off the queue. Whatever a job does, its thread takes the next one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from service.errors import describe_error
from service.heap import trim_heaps
from service.jobs.context import Environment, RunningJob, lower_priority
from service.jobs.endings import Ending, Endings
from service.jobs.errors import JobCancelled, JobInterrupted
from service.jobs.events import EventHub
from service.jobs.failures import PASSING, describe_failure, is_waiting_for_model
from service.jobs.folders import JobFolders
from service.jobs.progress import Progress
from service.jobs.record import JobRecord, JobState, Phase
from service.jobs.render import render
from service.jobs.track import track
from vision.errors import VisionError

log = logging.getLogger(__name__)

# A job whose model is not there goes back to the queue for so long; others take their turn meanwhile.
REST_S = 5.0
# Errors that pass by themselves although the models are there: seconds until the job tries again, from its last
# checkpoint; with progress in between the row begins anew.
RETRY_AFTER_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)
# How often an idle thread looks into the queue by itself; it is woken when a job comes or ends.
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
        self._endings = Endings(environment.store, environment.quota)
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._news = 0
        # Held while a row becomes "running": who asks for the thread of such a row finds it.
        self._claims = threading.Lock()
        self._running: dict[str, RunningJob] = {}
        self._resting: dict[str, float] = {}
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
        self._endings.write_all()
        return not any(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Say that a job waits, or that one has ended."""
        with self._wake:
            self._news += 1
            self._wake.notify_all()

    def running(self, job_id: str) -> RunningJob | None:
        """Return a job while a thread has it."""
        return self._running.get(job_id)

    def cancel(self, job_id: str) -> bool:
        """Tell a running job that it was cancelled, the queue knows already.

        Return whether a thread has it and will end it; a job that is running by its row alone is over after this.
        """
        with self._claims:
            job = self._running.get(job_id)
            if job is not None:
                job.cancelled.set()
                return True
            if self._endings.has(job_id):
                return True
            self._store.end_orphan(job_id, self._clock())
            return False

    # --- in a thread ---

    def _work(self) -> None:
        lower_priority()
        while not self._stopping.is_set():
            news = self._news
            try:
                self._endings.write_all()
                job = self._claim()
                if job is not None:
                    self._run(job)
                    continue
            except Exception:
                # The queue itself failed, most likely for want of disk.
                log.exception("the job queue cannot be used; trying again")
            self._sleep(news)

    def _claim(self) -> RunningJob | None:
        """Take a job from the queue; one that may have killed a server is alone until it has progress."""
        with self._claims:
            if any(job.is_suspect for job in self._running.values()):
                return None
            now = time.monotonic()
            self._resting = {job_id: end for job_id, end in self._resting.items() if end > now}
            record = self._store.claim(self._clock(), resting=self._resting, is_alone=not self._running)
            if record is None:
                return None
            job = RunningJob(
                record=record,
                folder=self._folders.of(record.id),
                progress=Progress(wants_video=record.wants_video, notify=lambda: self._hub.publish(record.id)),
                stopping=self._stopping,
                is_suspect=record.attempts > 0,
                on_cleared=self.wake,
            )
            self._running[record.id] = job
            return job

    def _run(self, job: RunningJob) -> None:
        """Run a job to its end, whatever that is, and write the end down."""
        job_id = job.record.id
        try:
            self._hub.publish(job_id)
            ending = self._ending_of(job)
            if ending.state is JobState.QUEUED and not self._stopping.is_set():
                self._resting[job_id] = time.monotonic() + REST_S
            self._endings.write(ending)
        finally:
            with self._claims:
                del self._running[job_id]
            self._hub.publish(job_id)
            self.wake()
            trim_heaps()

    def _ending_of(self, job: RunningJob) -> Ending:
        """Run a job and return how that ended; whatever the job does, it raises nothing."""
        job_id = job.record.id
        try:
            # A request to cancel may have come between the queue and this line.
            self._note_cancel(job)
            return self._execute(job)
        except JobInterrupted:
            log.info("job %s waits for the next start", job_id)
            return Ending(job, JobState.QUEUED, self._clock())
        except JobCancelled:
            return Ending(job, JobState.CANCELLED, self._clock())
        except Exception as exc:
            if job.cancelled.is_set():
                return Ending(job, JobState.CANCELLED, self._clock())
            if not job.shall_stop and is_waiting_for_model(exc, job, self._environment.builder):
                log.info("job %s waits for its model: %s", job_id, exc)
                return Ending(job, JobState.QUEUED, self._clock(), is_resting=True)
            return Ending(job, JobState.FAILED, self._clock(), error=describe_failure(exc, job_id))

    def _execute(self, job: RunningJob) -> Ending:
        """Run the phases that are left; errors that pass are waited out."""
        pauses, frames_before = list(RETRY_AFTER_S), job.record.frames_done
        while True:
            try:
                return self._run_phases(job)
            except VisionError as exc:
                self._note_cancel(job)
                if job.record.frames_done > frames_before:
                    pauses, frames_before = list(RETRY_AFTER_S), job.record.frames_done
                waits = is_waiting_for_model(exc, job, self._environment.builder)
                if waits or describe_error(exc).status not in PASSING or not pauses:
                    raise
                log.warning("job %s tries again in %g s: %s", job.record.id, pauses[0], exc)
                job.pause(pauses.pop(0))

    def _run_phases(self, job: RunningJob) -> Ending:
        record = job.record
        job.check()
        if record.phase is not Phase.RENDER:
            frames, warning = track(job, self._environment)
            if not record.wants_video:
                return Ending(job, JobState.SUCCEEDED, self._clock(), frames=frames, warning=warning)
            self._store.begin_render(record.id, frames, warning)  # and counts this attempt as the first at drawing
            record = job.record = self._reread(record)
        frames = record.frames_total or 0
        missing = render(job, self._environment, frames)
        warning = "; ".join(text for text in (record.warning, missing) if text) or None
        return Ending(job, JobState.SUCCEEDED, self._clock(), frames=frames, warning=warning)

    def _sleep(self, news: int) -> None:
        """Wait until there is more news than was known before the thread looked into the queue."""
        patience_s = min(_LOOK_S, REST_S) if self._resting or self._endings else _LOOK_S
        with self._wake:
            self._wake.wait_for(lambda: self._news != news or self._stopping.is_set(), patience_s)

    def _reread(self, record: JobRecord) -> JobRecord:
        return self._store.get(record.id) or record

    def _note_cancel(self, job: RunningJob) -> None:
        job.record = self._reread(job.record)
        if job.record.cancel_requested:
            job.cancelled.set()
