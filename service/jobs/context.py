"""What the phases of a running job share: its record, files and progress, and the question whether to stop."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from service.jobs.errors import JobCancelled, JobInterrupted
from service.jobs.folders import JobFolder
from service.jobs.needs import JobSettings, StreamBuilder
from service.jobs.probe import check_length
from service.jobs.progress import Progress
from service.jobs.quota import DiskQuota
from service.jobs.record import JobRecord
from service.jobs.store import JobStore
from vision.errors import MediaError
from vision.io.video import DecodeBudget, VideoReader
from vision.pipeline import QUEUE_DEPTH
from vision.prefetch import prefetch
from vision.types import Frame

# Jobs give way to requests where both want the CPU.
NICENESS = 5
# Much more than any camera needs between two pictures; by packets before by time, for time depends on the machine.
JOB_BUDGET = DecodeBudget(packets=5000, seconds=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What all jobs have in common."""

    settings: JobSettings
    store: JobStore
    quota: DiskQuota
    builder: StreamBuilder


@dataclass(slots=True, kw_only=True)
class RunningJob:
    """A job in the hands of a thread.

    Attributes:
        record: as it was when the thread took it.
        stopping: set when the server stops; the job is put back.
        cancelled: set when somebody cancels it.
        is_counted: whether this attempt was counted.
        is_suspect: whether the job may have ended a server; it runs alone until it has progress.
        on_cleared: called when it is suspect no more.
    """

    record: JobRecord
    folder: JobFolder
    progress: Progress
    stopping: threading.Event
    cancelled: threading.Event = field(default_factory=threading.Event)
    is_counted: bool = False
    is_suspect: bool = False
    on_cleared: Callable[[], None] = lambda: None

    @property
    def shall_stop(self) -> bool:
        """Whether there is no use in going on."""
        return self.cancelled.is_set() or self.stopping.is_set()

    def begin_attempt(self, store: JobStore) -> None:
        """Count this attempt, once: waiting for models is none, nor is trying again after an error that passed."""
        if not self.is_counted:
            store.begin_attempt(self.record.id)
            self.is_counted = True

    def note_progress(self) -> None:
        """Say that the job is further than any earlier attempt came."""
        if self.is_suspect:
            self.is_suspect = False
            self.on_cleared()

    def pause(self, seconds: float) -> None:
        """Wait, but not longer than the job may run."""
        end = time.monotonic() + seconds
        while not self.shall_stop and time.monotonic() < end:
            self.cancelled.wait(min(0.2, seconds))

    def check(self) -> None:
        """Raise JobCancelled or JobInterrupted once the job shall stop; asked between frames."""
        if self.cancelled.is_set():
            raise JobCancelled
        if self.stopping.is_set():
            raise JobInterrupted


@contextmanager
def opened_frames(
    job: RunningJob, settings: JobSettings, *, first: int = 0
) -> Generator[tuple[VideoReader, Generator[Frame, None, None]], None, None]:
    """Give the reader of a job's video and its frames from number ``first`` on, decoded ahead by a thread.

    The frames end early when the job shall stop: call ``job.check()`` after them.
    """
    try:
        reader = VideoReader(
            job.folder.source,
            max_pixels=settings.max_pixels,
            name=job.record.name,
            budget=JOB_BUDGET,
            should_stop=lambda: job.shall_stop,
        )
    except MediaError:
        job.check()  # a reader that is stopped before its first frame says that there is none
        raise
    with (
        reader,
        closing(prefetch(_frames(reader, job, settings.jobs_max_duration_s, first), QUEUE_DEPTH)) as frames,
    ):
        yield reader, frames


def _frames(reader: VideoReader, job: RunningJob, max_duration_s: float, first: int) -> Generator[Frame, None, None]:
    """Yield frames; those before ``first`` are decoded, for later ones build on them, and dropped."""
    for frame in reader:
        if job.shall_stop:
            return
        check_length(frame.timestamp_s, frame.index + 1, max_duration_s)
        if frame.index >= first:
            yield frame


def lower_priority() -> None:
    """Make the calling thread, and those it starts, give way to the others of the process; Linux alone can."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # A server that was started with a higher niceness may not lower it. A refusal costs politeness, not the job.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


Clock = Callable[[], float]
