"""The shared models as stages of a pipeline: a stream's own `Pipeline` runs in its own thread and waits at the common
batcher, so sessions and video jobs share one device with single pictures."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from service.errors import ConflictError
from service.model_entry import LoadedModel, ModelEntry
from service.work import Priority
from vision.detection.config import DetectorConfig
from vision.segmentation.config import SegmenterConfig
from vision.types import Detections, FloatArray, Frame, ImageArray, SegmentationMap


class ModelReplacedError(ConflictError):
    """Another model was loaded under the name while a job ran that shall have one from its first to its last frame."""


class SharedModel:
    """Asks one model of the registry, whichever is loaded under its name at the moment.

    Args:
        entry: the model.
        options: what ``prepare`` gets with each frame.
        priority: of the questions. BULK is for jobs, whose results are those of one model: the very one that is loaded
            now. Streams in between go on with another that has the same classes.
        timeout_s: longest wait for an answer.
    """

    def __init__(self, entry: ModelEntry, options: Any, *, priority: Priority, timeout_s: float) -> None:
        self.entry = entry
        self._options = options
        self._priority = priority
        self._timeout_s = timeout_s
        with entry.lease() as loaded:
            self.class_names: tuple[str, ...] = loaded.served.class_names
            self.dim = int(getattr(loaded.served, "dim", 0))
            # Weak: a job that waits must not keep weights on the device.
            self._only = weakref.ref(loaded) if priority is Priority.BULK else None

    def ask(self, frame: Frame, options: Any) -> Any:
        """Return the answer for one frame; raises what the model raised, UnavailableError or DeadlineError.

        Raises:
            ConflictError: the model was replaced by one that does not fit.
        """
        with self.entry.lease() as loaded:
            self._check_same(loaded)
            prepared = loaded.served.prepare(frame, options)
            return loaded.batcher.ask(prepared, timeout_s=self._timeout_s, priority=self._priority).value

    def close(self) -> None:
        """Nothing is held between frames."""

    def _check_same(self, loaded: LoadedModel) -> None:
        """Raise ConflictError where another model was loaded under the name, whose answers mean something else."""
        if self._only is not None and self._only() is not loaded:
            raise ModelReplacedError(
                f"model {self.entry.name} must be the one that the job began with, another was loaded since; run the "
                "job again"
            )
        served = loaded.served
        if served.class_names != self.class_names or int(getattr(served, "dim", 0)) != self.dim:
            raise ConflictError(
                f"model {self.entry.name} must be the one that the stream began with, another was loaded since, with "
                "other classes or embeddings; begin a new session or job"
            )


class SharedDetector(SharedModel):
    """A Detector with thresholds of its own."""

    def __init__(self, entry: ModelEntry, options: DetectorConfig, *, priority: Priority, timeout_s: float) -> None:
        super().__init__(entry, options, priority=priority, timeout_s=timeout_s)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame."""
        return [self.ask(frame, self._options) for frame in frames]


class SharedSegmenter(SharedModel):
    """A Segmenter."""

    def __init__(self, entry: ModelEntry, options: SegmenterConfig, *, priority: Priority, timeout_s: float) -> None:
        super().__init__(entry, options, priority=priority, timeout_s=timeout_s)

    def segment(self, frames: Sequence[Frame]) -> list[SegmentationMap]:
        """Return the map of each frame."""
        return [self.ask(frame, self._options) for frame in frames]


class SharedEmbedder(SharedModel):
    """An AppearanceEmbedder."""

    def __init__(self, entry: ModelEntry, *, priority: Priority, timeout_s: float) -> None:
        super().__init__(entry, None, priority=priority, timeout_s=timeout_s)

    def embed(self, frame: Frame, boxes: FloatArray) -> FloatArray:
        """Return float32 [N, D], row i for box i of ``boxes`` [N, 4]; no boxes do not disturb the model."""
        if len(boxes) == 0:
            return np.zeros((0, self.dim), np.float32)
        return np.asarray(self.ask(frame, boxes), np.float32)

    def embed_crops(self, crops: Sequence[ImageArray]) -> FloatArray:
        """Return float32 [N, D] of pictures that show one object each."""
        whole = [np.array([[0, 0, crop.shape[1], crop.shape[0]]], np.float32) for crop in crops]
        rows = [self.embed(Frame(crop), box) for crop, box in zip(crops, whole, strict=True)]
        return np.concatenate([np.zeros((0, self.dim), np.float32), *rows])
