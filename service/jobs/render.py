"""The second phase of a job: results drawn onto the video, encoded to MP4; begun anew when the server was killed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from service.errors import without_path
from service.jobs.context import Environment, RunningJob, opened_frames
from service.jobs.failures import is_disk_full
from service.jobs.folders import MAPS, RESULTS, VIDEO, JobFolder, sync_file, sync_folder
from service.jobs.outputs import read_maps
from service.jobs.record import Phase
from vision.errors import InvalidInputError, MediaError
from vision.io.writers.jsonl import read_jsonl
from vision.io.writers.video import VideoWriter
from vision.types import FrameResult

log = logging.getLogger(__name__)

# The quota is looked at after so many frames: a few megabytes of video.
_CHECK_EVERY = 100
# Rates outside are mistakes in a header; the timestamps of the frames are what counts.
_MAX_FPS = 999.0


def render(job: RunningJob, environment: Environment, frames_total: int) -> str | None:
    """Write annotated.mp4; return a warning where the video cannot be drawn, and there is none then.

    Raises:
        JobCancelled, JobInterrupted: the job shall stop; nothing is left of the video.
        OSError, MediaError: the disk failed or is full.
    """
    job.begin_attempt(environment.store)
    header, results = read_jsonl(job.folder.file(RESULTS))
    job.progress.begin(Phase.RENDER, total=frames_total)
    with opened_frames(job, environment.settings) as (reader, frames):
        fps = reader.fps if reader.fps is not None and 0 < reader.fps <= _MAX_FPS else None
        writer = VideoWriter(job.folder.file(VIDEO), fps=fps, class_names=tuple(header["class_names"]), overwrite=True)
        saved_s = time.monotonic()
        try:
            for frame, result in zip(frames, _with_maps(results, job.folder), strict=False):
                job.check()
                writer.write(frame, result)
                job.progress.reach(frame.index + 1)
                if frame.index % _CHECK_EVERY == _CHECK_EVERY - 1:
                    _count_bytes(job, environment)
                if time.monotonic() - saved_s >= environment.settings.jobs_checkpoint_s:
                    saved_s = _note_progress(job, environment, frame.index + 1)
            job.check()
            writer.close()
            # Before the queue says that it is there: after a power cut the job would else have half a video.
            sync_file(job.folder.file(VIDEO))
            sync_folder(job.folder.path)
        except InvalidInputError as exc:
            writer.abort()
            job.check()
            if isinstance(exc, MediaError):
                if is_disk_full(exc):
                    raise
                # The tracks are whole, and they are what the job is about.
                log.exception("job %s has no annotated video", job.record.id)
                return "there is no annotated video: the encoder failed; the server's log has the reason"
            log.info("job %s has no annotated video: %s", job.record.id, exc)
            return f"there is no annotated video: {without_path(exc)}"
        except BaseException:
            writer.abort()
            raise
    return None


def _with_maps(results: Iterator[FrameResult], folder: JobFolder) -> Iterator[FrameResult]:
    """Yield the results with their segmentation, where the tracking phase kept it."""
    if not folder.file(MAPS).exists():
        yield from results
        return
    for result, segmentation in zip(results, read_maps(folder.file(MAPS)), strict=False):
        yield replace(result, segmentation=segmentation)


def _note_progress(job: RunningJob, environment: Environment, frames: int) -> float:
    """Say how many frames are drawn; return the time. Drawing begins anew, but past where a server died is progress."""
    if frames > job.record.frames_done:
        environment.store.save_render_progress(job.record.id, frames)
        job.note_progress()
    return time.monotonic()


def _count_bytes(job: RunningJob, environment: Environment) -> None:
    environment.quota.record(job.record.id, job.folder.size())
    environment.quota.check()
