"""What an error means to a job: that it waits for a model, tries again, or has failed; and what its owner is told."""

from __future__ import annotations

import errno
import logging
import sqlite3

from service.errors import (
    INTERNAL,
    InferenceFailedError,
    QueueFullError,
    UnavailableError,
    describe_error,
    without_path,
)
from service.jobs.context import RunningJob
from service.jobs.errors import InvalidVideoError, StorageFullError
from service.jobs.needs import StreamBuilder
from service.stream_options import StreamOptions
from vision.errors import InvalidInputError, LimitExceededError, MediaError, VisionError

log = logging.getLogger(__name__)

# Statuses of errors that pass by themselves: a queue that is full, a model or a device that is not there, a deadline.
PASSING = frozenset({429, 503, 504})
INTERNAL_JOB = "the server failed on this job; its log has the reason"


def is_waiting_for_model(error: Exception, job: RunningJob, builder: StreamBuilder) -> bool:
    """Return whether a job cannot go on because a model is not loaded: no fault of the job's, however long it takes.

    An error before the first attempt says so itself; after it the model may be there and be the one that fails.
    """
    if not isinstance(error, VisionError) or describe_error(error).status not in PASSING:
        return False
    if not job.is_counted and isinstance(error, UnavailableError | QueueFullError):
        return True
    try:
        builder.check(StreamOptions.model_validate_json(job.record.options))
    except UnavailableError:
        return True
    except Exception:  # at the border of the job: whatever this is, the first error is the one to tell
        return False
    return False


def describe_failure(error: Exception, job_id: str) -> tuple[str, str]:
    """Return code and message of a failed job, without paths of the server; what we did not expect goes to the log."""
    if is_disk_full(error):
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


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is that of a full disk."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__
    return False
