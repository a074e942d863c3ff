"""A job as its owner sees it: the row of the queue, and while it runs the progress of this moment."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.jobs.folders import MEDIA_TYPES
from service.jobs.progress import ProgressView
from service.jobs.record import JobRecord, JobState, Phase

# Under which path the routes hand out a job.
URL = "/v1/jobs/{job_id}"


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(examples=["invalid_video"])
    message: str


class JobResult(BaseModel):
    """A finished file."""

    name: str = Field(examples=["tracks.txt"])
    bytes: int
    media_type: str
    url: str = Field(description="Path on this server; ranges of it can be asked for.")
    signed_url: str | None = Field(
        None,
        description="The same for GET without a key, for players and links; holds for 15 minutes and until the server "
        "ends. Left out for who needs no key.",
    )


class JobStatus(BaseModel):
    """A video job; times in seconds since 1970."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0f8fad5bd9cb469fa16570867728950e",
                    "name": "door camera",
                    "state": "running",
                    "phase": "track",
                    "progress": 0.31,
                    "frames_done": 97,
                    "frames_total": 250,
                    "eta_s": 14.2,
                    "frames_per_s": 18.4,
                    "created_at": 1767225600.0,
                    "started_at": 1767225601.0,
                    "finished_at": None,
                    "expires_at": None,
                    "options": {"tracker": "bytetrack"},
                    "warning": None,
                    "error": None,
                    "results": [],
                }
            ]
        }
    )

    id: str
    name: str = Field(description="As the client called it.")
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    phase: Literal["track", "render"] | None = Field(description="What a running or interrupted job does.")
    progress: float = Field(ge=0, le=1)
    frames_done: int = Field(description="Of the phase.")
    frames_total: int | None = Field(description="Of the phase; null while unknown.")
    eta_s: float | None = Field(description="Seconds until the job is done; null while that cannot be told.")
    frames_per_s: float | None = Field(description="Over the last seconds.")
    created_at: float
    started_at: float | None
    finished_at: float | None
    expires_at: float | None = Field(description="When a finished job is removed with its results.")
    options: dict[str, Any] = Field(description="The options of the stream, and whether a video is drawn (render).")
    warning: str | None = Field(description="What is missing in the results.")
    error: JobError | None
    results: list[JobResult]


class JobList(BaseModel):
    """The jobs of the key that asks, newest first."""

    jobs: list[JobStatus]


def status_of(
    record: JobRecord, progress: ProgressView | None, result_sizes: dict[str, int], *, retention_s: float
) -> dict[str, Any]:
    """Return the content of JobStatus; ``progress`` is None unless a thread has the job."""
    is_live = progress is not None and record.state is JobState.RUNNING
    phase = progress.phase if is_live and progress is not None else record.phase
    url = URL.format(job_id=record.id)
    status: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "state": record.state.value,
        "phase": None if record.state.is_final or phase is None else phase.value,
        "progress": _share_of(record),
        "frames_done": record.frames_done,
        "frames_total": record.frames_total,
        "eta_s": None,
        "frames_per_s": None,
        "created_at": round(record.created_at, 3),
        "started_at": None if record.started_at is None else round(record.started_at, 3),
        "finished_at": None if record.finished_at is None else round(record.finished_at, 3),
        "expires_at": None if record.finished_at is None else round(record.finished_at + retention_s, 3),
        "options": {**_given(orjson.loads(record.options)), "render": record.wants_video},
        "warning": record.warning,
        "error": (
            None if record.error_code is None else {"code": record.error_code, "message": record.error_message or ""}
        ),
        "results": [
            {"name": name, "bytes": size, "media_type": MEDIA_TYPES[name], "url": f"{url}/results/{name}"}
            for name, size in result_sizes.items()
        ],
    }
    if is_live and progress is not None:
        status |= {
            "progress": round(progress.share, 4),
            "frames_done": progress.frames_done,
            "frames_total": progress.frames_total,
            "eta_s": None if progress.eta_s is None else round(progress.eta_s, 1),
            "frames_per_s": None if progress.frames_per_s is None else round(progress.frames_per_s, 2),
        }
    return status


def _share_of(record: JobRecord) -> float:
    """Return how much is done of a job that no thread has."""
    if record.state is JobState.SUCCEEDED:
        return 1.0
    view = ProgressView.of(
        record.phase or Phase.TRACK, record.frames_done, record.frames_total, wants_video=record.wants_video
    )
    return round(view.share, 4)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say something; what was left out is the server's default."""
    return {name: value for name, value in options.items() if value is not None and value != {}}
