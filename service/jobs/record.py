"""A job as it lies in the queue: what was asked for, how far it is, and where it can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Life of a job; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing will happen to the job any more but its removal."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Phase(StrEnum):
    """What a running job does: find and track, then draw."""

    TRACK = "track"
    RENDER = "render"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A moment from which tracking goes on exactly.

    Attributes:
        digest: of the settings, weights and version that made it; with others the job begins anew.
        next_frame: index of the first frame that is not in the files.
        offsets: bytes of each unfinished file that are valid, by name.
        state: stem of the files with the states of tracker and camera.
    """

    digest: str
    next_frame: int
    offsets: Mapping[str, int]
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One row of the queue.

    Attributes:
        id: 32 random hexadecimal digits, also the name of the folder.
        key_id: opaque id of the API key it belongs to.
        name: what the client calls it; for display alone.
        options: StreamOptions as JSON.
        wants_video: whether an annotated video is made.
        video_bytes: size of the upload.
        frames_total: frames as the video's header says or as they were counted; None if unknown.
        frames_done: frames of the present phase that are safe on the disk.
        attempts: starts since the last progress; a job that kills the server twice without any has failed.
        cancel_requested: whether it shall stop, though it runs.
        deleted: whether its owner removed it while it ran; nobody sees it any more.
        warning: what is missing in the results, or None.
        error_code, error_message: why it failed, or None.
        created_at, started_at, finished_at: seconds since 1970.
    """

    id: str
    key_id: str
    name: str
    state: JobState
    phase: Phase | None
    options: str
    wants_video: bool
    video_bytes: int
    frames_total: int | None = None
    frames_done: int = 0
    attempts: int = 0
    cancel_requested: bool = False
    deleted: bool = False
    checkpoint: Checkpoint | None = None
    warning: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
