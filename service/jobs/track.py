"""The first phase of a job: each frame through the pipeline into the result files, with a checkpoint every few seconds.

A checkpoint is one step: files and states are made safe on the disk, then one transaction names them. Killed before it,
the job goes on from the checkpoint before; what was written since is cut off and made again.
"""

from __future__ import annotations

import logging
import time
from contextlib import closing
from dataclasses import replace

from service.clients import ModelReplacedError
from service.errors import ConflictError, describe_error
from service.jobs.checkpoint import digest_of, load_state, remove_states, save_state
from service.jobs.context import Environment, RunningJob, opened_frames
from service.jobs.errors import CheckpointError, InvalidVideoError
from service.jobs.failures import PASSING, is_waiting_for_model
from service.jobs.outputs import TrackOutputs, check_sizes
from service.jobs.record import Checkpoint, Phase
from service.stream_options import StreamOptions
from service.stream_state import put_state, take_state
from service.work import Priority
from vision.config import PipelineConfig, to_dict
from vision.errors import VisionError
from vision.pipeline import Pipeline
from vision.types import Frame, FrameResult

log = logging.getLogger(__name__)

# A frame whose networks are busy is tried again after so many seconds each; then the job goes on from its checkpoint.
FRAME_RETRY_S = (0.2, 0.5, 1.0, 2.0)
# Replaced more often than this while one video runs, a model is being worked on: the job may fail.
MAX_REPLACED = 100


def track(job: RunningJob, environment: Environment) -> tuple[int, str | None]:
    """Run the phase; return the number of frames, and a warning if a part of the video could not be read.

    Raises:
        JobCancelled, JobInterrupted: the job shall stop; in the second case a checkpoint was written.
        VisionError: the video or a network failed.
        OSError: the disk failed.
    """
    for _ in range(MAX_REPLACED):
        try:
            return _track_once(job, environment)
        except ModelReplacedError as exc:
            # Frames of two sets of weights in one file would be nobody's results.
            log.warning("job %s begins anew: %s", job.record.id, exc)
            _forget_checkpoint(job, environment)
    raise ConflictError(
        f"a model must stay for one run over the video, it was replaced {MAX_REPLACED} times; try later"
    )


def _track_once(job: RunningJob, environment: Environment) -> tuple[int, str | None]:
    """Run the phase with the models that are loaded now; raises ModelReplacedError when they change meanwhile."""
    options = StreamOptions.model_validate_json(job.record.options)
    config = environment.builder.check(options)
    digest = digest_of(options, config)
    with closing(environment.builder.open(options, priority=Priority.BULK)) as pipeline:
        start = _restore(job, environment, pipeline, digest)
        job.begin_attempt(environment.store)
        with _open_outputs(job, pipeline, config, start) as outputs:
            return _Tracking(job, environment, pipeline, outputs, digest).run(start)


def _forget_checkpoint(job: RunningJob, environment: Environment) -> None:
    environment.store.begin_anew(job.record.id)
    job.record = replace(job.record, checkpoint=None, frames_done=0)
    remove_states(job.folder)


def _restore(job: RunningJob, environment: Environment, pipeline: Pipeline, digest: str) -> Checkpoint | None:
    """Return the checkpoint to go on from, its states put into the pipeline; None to begin anew."""
    checkpoint = job.record.checkpoint
    if checkpoint is None:
        return None
    try:
        if checkpoint.digest != digest:
            raise CheckpointError("a checkpoint must be of the same settings, weights and version; begin anew")
        check_sizes(job.folder, checkpoint.offsets)
        load_state(job.folder, pipeline, checkpoint.state)
    except CheckpointError as exc:
        log.warning("job %s begins anew: %s", job.record.id, exc)
        _forget_checkpoint(job, environment)
        return None
    return checkpoint


def _open_outputs(
    job: RunningJob, pipeline: Pipeline, config: PipelineConfig, start: Checkpoint | None
) -> TrackOutputs:
    header = {"class_names": pipeline.object_names, "config": to_dict(config), "source": job.record.name}
    return TrackOutputs(
        job.folder,
        {} if start is None else start.offsets,
        header=header,
        with_maps=job.record.wants_video and pipeline.segmenter is not None,
    )


class _Tracking:
    """One run over the video, from a checkpoint or from the first frame."""

    def __init__(
        self, job: RunningJob, environment: Environment, pipeline: Pipeline, outputs: TrackOutputs, digest: str
    ) -> None:
        self._job, self._environment = job, environment
        self._pipeline, self._outputs, self._digest = pipeline, outputs, digest
        self._next_frame = self._saved_frame = 0
        self._saved_s = time.monotonic()

    def run(self, start: Checkpoint | None) -> tuple[int, str | None]:
        """Process all frames and give the files their names."""
        job, settings = self._job, self._environment.settings
        if start is not None:
            self._next_frame = self._saved_frame = start.next_frame
        with opened_frames(job, settings, first=self._next_frame) as (reader, frames):
            job.progress.begin(Phase.TRACK, total=reader.frame_count, done=self._next_frame)
            for frame in frames:
                if job.shall_stop:
                    break
                result = self._process(frame)
                if result is None:
                    break
                self._outputs.write(result)
                self._next_frame = frame.index + 1
                job.progress.reach(self._next_frame)
                if time.monotonic() - self._saved_s >= settings.jobs_checkpoint_s:
                    self._save()
            truncated = reader.truncated
        if job.stopping.is_set() and self._next_frame > self._saved_frame:
            self._save()
        job.check()
        if not self._next_frame:
            raise InvalidVideoError("a video must have a frame that can be decoded, found none; export it again")
        self._environment.quota.record(job.record.id, job.record.video_bytes + self._outputs.size)
        self._outputs.publish()
        return self._next_frame, _warning(self._next_frame) if truncated else None

    def _process(self, frame: Frame) -> FrameResult | None:
        """Return the result of a frame, None when the job shall stop; raises what does not pass by itself in time."""
        for pause_s in (*FRAME_RETRY_S, None):
            before = take_state(self._pipeline)
            try:
                return self._pipeline.process(frame)
            except VisionError as exc:
                put_state(self._pipeline, before)
                if describe_error(exc).status not in PASSING:
                    raise
                builder = self._environment.builder
                if pause_s is None or is_waiting_for_model(exc, self._job, builder):
                    # The frames so far are not to be computed again, however long the models stay away.
                    if self._next_frame > self._saved_frame:
                        self._save()
                    raise
                self._job.pause(pause_s)
                if self._job.shall_stop:
                    return None
        raise AssertionError("the last try returns or raises")

    def _save(self) -> None:
        """Write a checkpoint; the frames so far are then safe."""
        folder, environment = self._job.folder, self._environment
        offsets = self._outputs.sync()
        state = save_state(folder, self._pipeline, self._next_frame)
        checkpoint = Checkpoint(digest=self._digest, next_frame=self._next_frame, offsets=offsets, state=state)
        environment.store.save_checkpoint(self._job.record.id, checkpoint)
        remove_states(folder, keep=state)
        environment.quota.record(self._job.record.id, self._job.record.video_bytes + self._outputs.size)
        environment.quota.check()
        self._saved_frame, self._saved_s = self._next_frame, time.monotonic()
        self._job.note_progress()


def _warning(frames: int) -> str:
    return f"the video is damaged or cut short; the results are those of the {frames} frames that could be decoded"
