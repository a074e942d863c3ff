"""What can be wrong with a video job: errors of requests, and the two signals that end a job in the middle."""

from __future__ import annotations

from service.errors import NotFoundError, QueueFullError, ServiceError


class JobNotFoundError(NotFoundError):
    """No such job, or one of another key."""

    code = "job_not_found"

    def __init__(
        self, message: str = "expected the id of one of your jobs, found none of that id; list them with GET /v1/jobs"
    ) -> None:
        super().__init__(message)


class TooManyJobsError(QueueFullError):
    """As many jobs wait as may."""

    code = "too_many_jobs"


class InvalidVideoError(ServiceError):
    """The upload is no video that can be decoded."""

    status, code = 422, "invalid_video"


class VideoTooLongError(ServiceError):
    """The video lasts longer, or has more frames, than allowed."""

    status, code = 413, "video_too_long"


class StorageFullError(ServiceError):
    """The disk, or what jobs may take of it, is full."""

    status, code = 507, "storage_full"


class RangeNotSatisfiableError(ServiceError):
    """The range asked for begins behind the end of the file."""

    status, code = 416, "range_not_satisfiable"


class CheckpointError(ServiceError):
    """A checkpoint cannot be used; the job begins anew."""


class JobCancelled(Exception):  # noqa: N818 - a signal, no fault
    """Somebody cancelled the job that is running."""


class JobInterrupted(Exception):  # noqa: N818 - a signal, no fault
    """The server stops; the job goes on at its next start."""
