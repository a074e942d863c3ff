"""Items to rows: what a task computes of a picture or frame. The engines differ in who calls this, and in nothing else.

Everything in a row depends on the frame alone (of a tracked video: on the frames before it), never on the machine or
the hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from vision.batch.config import BatchConfig, Task
from vision.batch.facts import Core, CoreFacts, Row, Work
from vision.batch.model_digests import classifier_digests, detector_digests, model_digests
from vision.build import (
    build_camera_motion,
    build_detector,
    build_embedder,
    build_frame_classifier,
    build_pipeline,
    build_segmenter,
    build_tracker,
    resolve_classifier,
    resolve_config,
)
from vision.config import PipelineConfig
from vision.detection.torchvision_detectors import published_name
from vision.errors import ConfigError, InvalidInputError, StateError
from vision.geometry.rle import encode_classes
from vision.io.writers.base import reported_tracks
from vision.pipeline import Pipeline
from vision.runtime.config import RuntimeConfig
from vision.runtime.cpus import available_cpus
from vision.runtime.engine import resolve_device
from vision.types import Classification, Detections, SegmentationMap

# Pictures in a forward pass unless the configuration says otherwise. On the CPU a batch gains nothing for networks that
# fill the cores with one picture; small inputs share the cost of the call.
_CPU_BATCH: dict[Task, int] = {"detect": 1, "segment": 1, "track": 1, "embed": 8, "classify": 8}
_CUDA_BATCH = 16


def open_core(config: BatchConfig, *, device: str | None = None, threads: int = 0) -> Core:
    """Return the core of a task with its networks loaded.

    Args:
        config: of the job.
        device: in place of the configuration's. threads: CPU threads; 0 leaves it to the configuration.

    Raises:
        ModelError, ConfigError: the models cannot be loaded, as the command of the same name would say.
    """
    runtime = config.pipeline.runtime
    if threads:
        runtime = replace(runtime, threads=threads)
    if device is not None:
        runtime = replace(runtime, device=device)
    runtime = replace(runtime, parallel=_parallel(config, runtime))
    if runtime.parallel > 1:
        _leave_cores_to_callers()
        if config.task != "track":
            # There is always another picture; of a single video's frames there may be one at a time.
            runtime = replace(runtime, threads=1)
    cores: dict[Task, Callable[[BatchConfig, RuntimeConfig], Core]] = {
        "detect": _DetectCore,
        "segment": _SegmentCore,
        "track": _TrackCore,
        "embed": _EmbedCore,
        "classify": _ClassifyCore,
    }
    return cores[config.task](config, runtime)


def _leave_cores_to_callers() -> None:
    """Have the libraries start no threads: pictures side by side fill the cores, and what torch and OpenCV do to one
    of them is too little to be divided. OpenCV's threads even ask for work all the time, in turns with ours."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _parallel(config: BatchConfig, runtime: RuntimeConfig) -> int:
    """Return how many threads may call the core: on the CPU pictures side by side keep all cores busy, a GPU takes one
    batch after the other, and torch divides one picture among the cores by itself."""
    is_torchs = config.task in ("detect", "track") and published_name(config.pipeline.detection.model) is not None
    if resolve_device(runtime.device).type != "cpu" or runtime.engine == "torch" or is_torchs:
        return 1
    return runtime.threads or available_cpus()


def _facts(config: BatchConfig, resolved: PipelineConfig, runtime: RuntimeConfig, **own: Any) -> CoreFacts:
    device = resolve_device(runtime.device)
    batch = config.batch or (_CUDA_BATCH if device.type == "cuda" else _CPU_BATCH[config.task])
    return CoreFacts(
        task=config.task,
        # The device as it was asked for: a job may go on on another machine.
        config=replace(config, pipeline=replace(resolved, runtime=config.pipeline.runtime)),
        device=str(device),
        batch=batch,
        parallel=runtime.parallel,
        **own,
    )


class _Stateless:
    """A core without streams."""

    def forget(self, stream: int) -> None:
        """Nothing is kept."""


class _DetectCore(_Stateless):
    def __init__(self, config: BatchConfig, runtime: RuntimeConfig) -> None:
        resolved = resolve_config(config.pipeline, track=False)
        self._detector = build_detector(resolved.detection, runtime)
        self.facts = _facts(
            config,
            resolved,
            runtime,
            models={"detection": detector_digests(resolved)},
            class_names=self._detector.class_names,
        )

    def rows(self, works: Sequence[Work]) -> list[Row]:
        found = self._detector.detect([work.frame for work in works])
        return [work.head() | _boxes(each) for work, each in zip(works, found, strict=True)]


class _SegmentCore(_Stateless):
    def __init__(self, config: BatchConfig, runtime: RuntimeConfig) -> None:
        self._segmenter = build_segmenter(config.pipeline.segmentation, runtime)
        settings = config.pipeline.segmentation
        self.facts = _facts(
            config,
            config.pipeline,
            runtime,
            models={"segmentation": model_digests(settings.model, settings.weights)},
            class_names=self._segmenter.class_names,
        )

    def rows(self, works: Sequence[Work]) -> list[Row]:
        maps = self._segmenter.segment([work.frame for work in works])
        return [work.head() | _masks(each) for work, each in zip(works, maps, strict=True)]


class _ClassifyCore(_Stateless):
    def __init__(self, config: BatchConfig, runtime: RuntimeConfig) -> None:
        resolved = resolve_classifier(config.pipeline)
        self._classifier = build_frame_classifier(resolved.classification, runtime)
        readout = self._classifier.readout
        self.facts = _facts(
            config,
            resolved,
            runtime,
            models={"classification": classifier_digests(resolved.classification.model)},
            class_names=self._classifier.class_names,
            unit=None if self._classifier.class_names else readout.unit,
        )

    def rows(self, works: Sequence[Work]) -> list[Row]:
        found = self._classifier.classify([work.frame for work in works])
        return [work.head() | _classes(each) for work, each in zip(works, found, strict=True)]


class _EmbedCore(_Stateless):
    def __init__(self, config: BatchConfig, runtime: RuntimeConfig) -> None:
        settings = config.pipeline
        embedder = build_embedder(settings.embedding, runtime, settings.detection)
        if embedder is None:
            raise ConfigError("embedding.model must name an embedder, got 'none'; pass --model NAME")
        self._embedder = embedder
        self.facts = _facts(
            config, settings, runtime, models={"embedding": model_digests(settings.embedding.model)}, dim=embedder.dim
        )

    def rows(self, works: Sequence[Work]) -> list[Row]:
        vectors = self._embedder.embed_crops([work.frame.image for work in works])
        if not np.isfinite(vectors).all():
            # Of half precision; the picture alone says which one it was.
            raise InvalidInputError("embeddings must be finite, got NaN or infinity; run with runtime.precision=fp32")
        return [work.head() | {"embedding": vector} for work, vector in zip(works, vectors, strict=True)]


class _TrackCore:
    """Detections in batches, each video's tracker one frame after the other: the rows of ``stride32 track``."""

    def __init__(self, config: BatchConfig, runtime: RuntimeConfig) -> None:
        resolved = resolve_config(config.pipeline)
        # Built as the command builds them, so that both run the same: a single-pass embedder comes with its detector.
        template = build_pipeline(replace(resolved, runtime=runtime))
        self._config, self._detector, self._embedder = resolved.tracking, template.detector, template.embedder
        self._streams: dict[int, Pipeline] = {}
        self._broken: set[int] = set()
        models = {"detection": detector_digests(resolved)}
        if resolved.tracking.appearance and resolved.embedding.model != "none":
            models["embedding"] = model_digests(resolved.embedding.model)
        self.facts = _facts(config, resolved, runtime, models=models, class_names=template.class_names)

    def rows(self, works: Sequence[Work]) -> list[Row]:
        assert self._detector is not None
        found = self._detector.detect([work.frame for work in works])
        return [self._row(work, each) for work, each in zip(works, found, strict=True)]

    def _row(self, work: Work, detections: Detections) -> Row:
        if work.stream in self._broken:
            raise StateError(f"{work.path} cannot be followed further: a frame before this one failed; see its error")
        # Until the frame is through: a tracker that has seen half of it must see no more.
        self._broken.add(work.stream)
        tracks = self._stream(work.stream).process(work.frame, detections).tracks
        self._broken.discard(work.stream)
        assert tracks is not None
        reported = reported_tracks(tracks)
        return work.head() | {
            "boxes": reported.boxes,
            "scores": reported.scores,
            "labels": reported.labels,
            "track_ids": reported.ids,
        }

    def _stream(self, stream: int) -> Pipeline:
        if stream not in self._streams:
            self._streams[stream] = Pipeline(
                embedder=self._embedder,
                camera=build_camera_motion(self._config),
                tracker=build_tracker(self._config),
            )
        return self._streams[stream]

    def forget(self, stream: int) -> None:
        self._streams.pop(stream, None)
        self._broken.discard(stream)


def _boxes(found: Detections) -> Row:
    return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}


def _masks(segmentation: SegmentationMap) -> Row:
    labels, areas, counts = encode_classes(segmentation.labels)
    return {"mask_labels": labels, "mask_areas": areas, "mask_counts": counts}


def _classes(found: Classification) -> Row:
    if found.value is not None:
        return {"value": found.value, "unit": found.unit}
    return {"labels": found.labels, "scores": found.scores, "names": found.names, "assigned": found.assigned}
