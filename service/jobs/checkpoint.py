"""The states of tracker and camera on the disk, and what they fit to: how a killed job goes on to the last bit."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import orjson

from service.jobs.errors import CheckpointError
from service.jobs.folders import JobFolder, sync_file, sync_folder
from service.stream_options import StreamOptions
from vision import __version__
from vision.config import PipelineConfig, to_dict
from vision.errors import ModelError, VisionError
from vision.pipeline import Pipeline
from vision.store import find_model
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.snapshot import DAMAGED, load_tracker, save_tracker

# Raised when the files of a checkpoint change their form.
FORMAT = 1
_PREFIX = "state-"


def digest_of(options: StreamOptions, config: PipelineConfig) -> str:
    """Return a digest of all that decides a job's results beside the video: settings, weights and version."""
    names = (config.detection.model, config.embedding.model, config.segmentation.model)
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "options": options.canonical().decode(),
        "config": to_dict(config),
        "weights": {name: _weights_digest(name) for name in names},
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _weights_digest(name: str) -> str | None:
    """Return the digest of a model's weights; None for models that are not in the store and go by their name."""
    try:
        return find_model(name).sha256
    except ModelError:
        return None


def save_state(folder: JobFolder, pipeline: Pipeline, next_frame: int) -> str:
    """Write the states of the pipeline after ``next_frame`` frames; return their stem. They are safe on the disk.

    The files of the last checkpoint stay: until the queue names the new ones, those are what counts.
    """
    stem = f"{_PREFIX}{next_frame}"
    if pipeline.tracker is not None:
        path = folder.file(f"{stem}.tracker.npz")
        save_tracker(pipeline.tracker, path)
        sync_file(path)
    if pipeline.camera is not None:
        part, path = folder.part(f"{stem}.camera.npz"), folder.file(f"{stem}.camera.npz")
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **pipeline.camera.to_arrays())
        part.replace(path)
        sync_file(path)
    sync_folder(folder.path)
    return stem


def load_state(folder: JobFolder, pipeline: Pipeline, stem: str) -> None:
    """Put saved states into a new pipeline.

    Raises:
        CheckpointError: a file is missing, damaged, or of other settings than the pipeline's.
    """
    tracker, camera = pipeline.tracker, pipeline.camera
    try:
        if tracker is not None:
            config = tracker.config
            tracker = load_tracker(folder.file(f"{stem}.tracker.npz"))
            if dataclasses.asdict(tracker.config) != dataclasses.asdict(config):
                raise CheckpointError(f"{stem} must be of the settings of the job, it is of others; begin anew")
        if camera is not None:
            with np.load(folder.file(f"{stem}.camera.npz"), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            camera = CameraMotion.from_arrays(arrays, camera.method, long_side=camera.long_side)
    except CheckpointError:
        raise
    except (VisionError, *DAMAGED) as exc:
        raise CheckpointError(f"{stem} must hold the states that were saved, failed: {exc}; begin anew") from exc
    # Both or none: a job that begins anew does so with the pipeline as it was.
    pipeline.tracker, pipeline.camera = tracker, camera


def remove_states(folder: JobFolder, *, keep: str | None = None) -> None:
    """Remove the states of all checkpoints but the one named ``keep``."""
    for path in folder.path.glob(f"{_PREFIX}*"):
        if keep is None or path.name.split(".")[0] != keep:
            path.unlink(missing_ok=True)
