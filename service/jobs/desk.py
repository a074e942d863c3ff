"""What owners do with their jobs once they are in the queue: ask, cancel, fetch, remove. Blocks; called in threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.errors import ConflictError
from service.jobs.errors import JobNotFoundError
from service.jobs.folders import MEDIA_TYPES, JobFolders, is_job_id
from service.jobs.quota import DiskQuota
from service.jobs.record import JobRecord, JobState, Phase
from service.jobs.runner import JobRunner
from service.jobs.status import status_of
from service.jobs.store import JobStore

log = logging.getLogger(__name__)


class JobDesk:
    """Jobs by key and id; a job of another key is as if it were not there.

    Args:
        store, folders, quota, runner: where jobs are.
        retention_s: how long a finished job is kept.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        store: JobStore,
        folders: JobFolders,
        quota: DiskQuota,
        runner: JobRunner,
        *,
        retention_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._folders, self._quota, self._runner = store, folders, quota, runner
        self._retention_s, self._clock = retention_s, clock

    def find(self, key_id: str, job_id: str) -> JobRecord:
        """Return a job; raises JobNotFoundError."""
        record = self._store.get(job_id) if is_job_id(job_id) else None
        if record is None or record.deleted or record.key_id != key_id:
            raise JobNotFoundError
        return record

    def status(self, record: JobRecord) -> dict[str, Any]:
        """Return what JobStatus holds."""
        running = self._runner.running(record.id)
        sizes = self._folders.of(record.id).result_sizes() if _has_results(record) else {}
        progress = None if running is None else running.progress.view()
        return status_of(record, progress, sizes, retention_s=self._retention_s)

    def get(self, key_id: str, job_id: str) -> dict[str, Any]:
        """Return the status of a job; raises JobNotFoundError."""
        return self.status(self.find(key_id, job_id))

    def list_of(self, key_id: str, state: JobState | None, limit: int) -> list[dict[str, Any]]:
        """Return the status of a key's jobs, newest first."""
        return [self.status(record) for record in self._store.list_of(key_id, state=state, limit=limit)]

    def cancel(self, key_id: str, job_id: str) -> dict[str, Any]:
        """Cancel a waiting job, ask a running one to stop; return its status.

        Raises:
            JobNotFoundError: no such job.
            ConflictError: it is over already; a cancelled one may be cancelled again.
        """
        self.find(key_id, job_id)
        before = self._store.request_cancel(job_id, self._clock())
        if before in (JobState.SUCCEEDED, JobState.FAILED):
            raise ConflictError(
                f"only a waiting or running job can be cancelled, this one has {before.value}; delete it instead"
            )
        is_owned = self._runner.cancel(job_id)
        if before is JobState.QUEUED or (before is JobState.RUNNING and not is_owned):
            folder = self._folders.of(job_id)
            folder.keep_results()
            self._quota.record(job_id, folder.size())
        return self.get(key_id, job_id)

    def delete(self, key_id: str, job_id: str) -> None:
        """Remove a job and its files; one that runs is gone for its owner at once and stopped by its thread."""
        self.find(key_id, job_id)
        before = self._store.delete(job_id)
        is_owned = self._runner.cancel(job_id)
        if before is JobState.RUNNING and is_owned:
            return
        self._store.delete(job_id)
        self._remove_files(job_id)

    def result(self, key_id: str, job_id: str, name: str) -> Path:
        """Return the place of a finished file; raises JobNotFoundError, also where that file is not there."""
        record = self.find(key_id, job_id)
        path = self._folders.of(record.id).file(name) if name in MEDIA_TYPES else None
        if path is None or not _has_results(record) or not path.is_file():
            raise JobNotFoundError(f"expected one of the job's results, found none named {name[:40]!a}; see its status")
        return path

    def sweep(self) -> list[str]:
        """Remove the jobs whose time is over; return their ids."""
        expired = [record.id for record in self._store.finished_before(self._clock() - self._retention_s)]
        for job_id in expired:
            self._store.delete(job_id)
            self._remove_files(job_id)
            log.info("job %s has expired", job_id)
        return expired

    def restore(self) -> None:
        """Bring queue and folders together after a start, whatever the last end was."""
        self._store.recover(self._clock())
        records = self._store.all()
        orphans = self._folders.remove_orphans({record.id for record in records})
        if orphans:
            log.warning("removed %d folders that belong to no job: torn uploads", orphans)
        for record in records:
            folder = self._folders.of(record.id)
            if record.state.is_final:
                folder.keep_results()
            elif not folder.source.is_file():
                lost = "the job's upload must be on the server, it is lost; upload the video again"
                self._store.finish(record.id, JobState.FAILED, self._clock(), error=("internal", lost))
            self._quota.record(record.id, folder.size())

    def _remove_files(self, job_id: str) -> None:
        self._folders.of(job_id).remove()
        self._quota.release(job_id)


def _has_results(record: JobRecord) -> bool:
    """Return whether files under their final names are results; a killed job may be about to make them again."""
    return record.state.is_final or record.phase is Phase.RENDER
