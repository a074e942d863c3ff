"""The second phase of a job: results drawn onto the video, encoded to MP4; begun anew when the server was killed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from service.errors import ServiceError, without_path
from service.jobs.context import Environment, RunningJob, opened_frames
from service.jobs.folders import MAPS, RESULTS, VIDEO, JobFolder
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
        ServiceError: the encoder failed.
        OSError: the disk failed.
    """
    job.begin_attempt(environment.store)
    header, results = read_jsonl(job.folder.file(RESULTS))
    job.progress.begin(Phase.RENDER, total=frames_total)
    with opened_frames(job, environment.settings) as (reader, frames):
        fps = reader.fps if reader.fps is not None and 0 < reader.fps <= _MAX_FPS else None
        writer = VideoWriter(job.folder.file(VIDEO), fps=fps, class_names=tuple(header["class_names"]), overwrite=True)
        try:
            for frame, result in zip(frames, _with_maps(results, job.folder), strict=False):
                job.check()
                writer.write(frame, result)
                job.progress.reach(frame.index + 1)
                if frame.index % _CHECK_EVERY == _CHECK_EVERY - 1:
                    _count_bytes(job, environment)
            job.check()
            writer.close()
        except InvalidInputError as exc:
            writer.abort()
            if isinstance(exc, MediaError):
                raise ServiceError(
                    "the annotated video must be encoded, the encoder failed; the server's log has the reason"
                ) from exc
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


def _count_bytes(job: RunningJob, environment: Environment) -> None:
    environment.quota.record(job.record.id, job.folder.size())
    environment.quota.check()
