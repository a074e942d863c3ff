"""How runs of jobs end, written into the queue: a disk that is full at that moment may not turn a result into nothing.

What cannot be written is kept and tried again; until then the job counts as running, which is what its row says.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from service.jobs.context import RunningJob
from service.jobs.quota import DiskQuota
from service.jobs.record import JobState
from service.jobs.store import JobStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run.

    Attributes:
        job: as its thread had it.
        state: a final one, or QUEUED for a job that is put back.
        when: seconds since 1970.
        frames: their number if it is known now.
        warning: what is missing in the results, or None.
        error: code and message of a failed job.
        is_resting: whether a job that is put back waits for a model, and not for the next start.
    """

    job: RunningJob
    state: JobState
    when: float
    frames: int | None = None
    warning: str | None = None
    error: tuple[str, str] | None = None
    is_resting: bool = False


class Endings:
    """Writes endings down, each once; methods may be called from any thread."""

    def __init__(self, store: JobStore, quota: DiskQuota) -> None:
        self._store, self._quota = store, quota
        self._lock = threading.Lock()
        self._unwritten: dict[str, Ending] = {}

    def __bool__(self) -> bool:
        """Whether some could not be written yet."""
        return bool(self._unwritten)

    def has(self, job_id: str) -> bool:
        """Return whether a job has ended and its row does not say so yet."""
        return job_id in self._unwritten

    def write(self, ending: Ending) -> None:
        """Write an ending down, now or as soon as that can be."""
        with self._lock:
            self._unwritten[ending.job.record.id] = ending
        self.write_all()

    def write_all(self) -> None:
        """Try to write what could not be written so far."""
        if not self._unwritten:
            return
        with self._lock:
            for job_id, ending in list(self._unwritten.items()):
                try:
                    self._settle(ending)
                except Exception:
                    log.exception("job %s is %s, which cannot be written down; trying again", job_id, ending.state)
                    continue
                del self._unwritten[job_id]

    def _settle(self, ending: Ending) -> None:
        job, job_id = ending.job, ending.job.record.id
        if ending.state is JobState.QUEUED:
            if ending.is_resting:
                self._store.rest(job_id, was_counted=job.is_counted)
            else:
                self._store.requeue(job_id)
            return
        self._store.finish(
            job_id, ending.state, ending.when, frames=ending.frames, warning=ending.warning, error=ending.error
        )
        log.info("job %s %s%s", job_id, ending.state, "" if ending.error is None else f": {ending.error[1]}")
        try:
            self._clear_up(job)
        except OSError:
            # The job is over all the same, and the next start clears up again.
            log.exception("job %s leaves files that are no results", job_id)

    def _clear_up(self, job: RunningJob) -> None:
        """Remove what is no result, or all of a job that was deleted."""
        job_id = job.record.id
        record = self._store.get(job_id)
        if record is None or record.deleted:
            self._store.delete(job_id)
            job.folder.remove()
            self._quota.release(job_id)
        else:
            job.folder.keep_results()
            self._quota.record(job_id, job.folder.size())
