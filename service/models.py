"""A loaded model as the batcher sees it: one input made ready in any thread, a batch run in the device thread.

The four kinds of model differ in what one input is; all else (queue, batches, failures) is theirs in common.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from vision.build import MIN_DETECTION_CONF, build_detector, build_embedder, build_frame_classifier, build_segmenter
from vision.classification.classifier import EngineClassifier
from vision.classification.config import ClassifierConfig
from vision.detection.classes import wanted_labels
from vision.detection.config import DetectorConfig
from vision.detection.detector import Detector, PreparedDetector
from vision.detection.device_detector import DeviceDetector
from vision.detection.registry import resolve_thresholds
from vision.errors import ConfigError
from vision.reid.appearance import AppearanceEmbedder
from vision.reid.config import EmbedderConfig
from vision.reid.embedder import Embedder
from vision.runtime.config import RuntimeConfig
from vision.runtime.device_memory import device_memory
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_segmenter import DeviceSegmenter
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import EngineSegmenter, Segmenter
from vision.types import Detections, FloatArray, Frame

TASKS = {"detector": "detect", "segmenter": "segment", "classifier": "classify", "embedder": "embed"}


class ServedModel(Protocol):
    """A loaded model; ``prepare`` is free of state and runs in any thread, ``run`` in the device thread."""

    task: str
    max_batch: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label; empty for embedders and regressions."""
        ...

    @property
    def engine(self) -> str:
        """What runs the network, for example ``onnx:cpu``."""
        ...

    def prepare(self, frame: Frame, options: Any = None) -> Any:
        """Return one frame's input with the options of its request; see each class for them."""
        ...

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return one answer an input, all of one ``shape_key``."""
        ...

    def close(self) -> None:
        """Let the network go."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FrameInput:
    """A frame whose preparation is part of the model's own call."""

    frame: Frame
    options: Any = None

    @property
    def shape_key(self) -> Hashable:
        """Frames of one size go together."""
        return self.frame.size_hw


class ServedDetector:
    """Detectors. Options: a DetectorConfig with the request's thresholds; answers: Detections.

    Detectors that cannot take thresholds a frame (sliding windows, torchvision's) run with the lowest useful score, and
    what a request does not want of their answer is left out afterwards.
    """

    task = "detect"

    def __init__(self, model: str, runtime: RuntimeConfig) -> None:
        self.config = resolve_thresholds(DetectorConfig(model=model))
        detector = build_detector(self.config, runtime)
        self.splits = isinstance(detector, PreparedDetector)
        if not self.splits:
            # In place of the first, which is let go.
            detector = build_detector(replace(self.config, conf=MIN_DETECTION_CONF, max_det=1000), runtime)
        self.detector: Detector | None = detector
        self.class_names = detector.class_names
        self.engine = engine_name(detector)
        self.max_batch = 1

    def resolve(self, options: DetectorConfig | None) -> DetectorConfig:
        """Return thresholds with this model's own in place of "auto"; raises ConfigError where they cannot be kept."""
        if options is None:
            return self.config
        conf = self.config.conf if options.conf == "auto" else options.conf
        iou = self.config.iou if options.iou == "auto" else options.iou
        made = replace(options, model=self.config.model, conf=conf, iou=iou)
        wanted_labels(made.classes, self.class_names)
        own = self.config
        fixed = (made.iou, made.class_agnostic, made.long_side) != (own.iou, own.class_agnostic, own.long_side)
        if not self.splits and (fixed or made.score_floor < MIN_DETECTION_CONF):
            raise ConfigError(
                f"{own.model} takes conf from {MIN_DETECTION_CONF}, max_det and classes with a request, got other "
                "settings as well; leave them out, or use a detector with anchors"
            )
        return made

    def prepare(self, frame: Frame, options: DetectorConfig | None = None) -> Any:
        """Return the network's input."""
        config = self.resolve(options)
        if isinstance(self.detector, PreparedDetector):
            return self.detector.prepare(frame, config)
        return FrameInput(frame, config)

    def run(self, inputs: Sequence[Any]) -> Sequence[Detections]:
        """Return the detections of each input."""
        if isinstance(self.detector, PreparedDetector):
            return self.detector.detect_prepared(inputs)
        assert self.detector is not None
        # torchvision's run without an engine, which would tell the batcher of a lack of memory.
        with device_memory(f"a batch of {len(inputs)}"):
            found = self.detector.detect([item.frame for item in inputs])
        return [self._keep(own, item.options) for own, item in zip(found, inputs, strict=True)]

    @property
    def launcher(self) -> DeviceDetector | None:
        """The detector, where its batches may overlap."""
        return self.detector if isinstance(self.detector, DeviceDetector) else None

    def _keep(self, found: Detections, config: DetectorConfig) -> Detections:
        """Return what the request wants: scores and classes of its choice, the best ``max_det`` of them."""
        kept = found.scores >= np.float32(config.score_floor)
        wanted = wanted_labels(config.classes, self.class_names)
        if wanted is not None:
            kept &= np.isin(found.labels, wanted)
        return found[kept][: config.max_det]

    def close(self) -> None:
        """Let the network go, and what was recorded of it."""
        if isinstance(self.detector, DeviceDetector):
            self.detector.close()
        self.detector = None


class ServedSegmenter:
    """Segmenters. Options: a SegmenterConfig, of which ``classes`` and ``long_side`` are taken; answers:
    SegmentationMap."""

    task = "segment"

    def __init__(self, model: str, runtime: RuntimeConfig) -> None:
        self.segmenter: Segmenter = build_segmenter(SegmenterConfig(model=model), runtime)
        self.class_names = self.segmenter.class_names
        self.engine = engine_name(self.segmenter)
        self.max_batch = 1

    def prepare(self, frame: Frame, options: SegmenterConfig | None = None) -> Any:
        """Return the network's input, with the classes that are kept."""
        assert isinstance(self.segmenter, EngineSegmenter | DeviceSegmenter)
        if options is None:
            return self.segmenter.prepare(frame)
        reading = Reading(self.class_names, kept=options.classes) if options.classes else None
        return self.segmenter.prepare(frame, reading, long_side=options.long_side)

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return the map of each input."""
        assert isinstance(self.segmenter, EngineSegmenter | DeviceSegmenter)
        return self.segmenter.segment_prepared(inputs)

    @property
    def launcher(self) -> DeviceSegmenter | None:
        """The segmenter, where its batches may overlap."""
        return self.segmenter if isinstance(self.segmenter, DeviceSegmenter) else None

    def close(self) -> None:
        """Let the network go."""
        self.segmenter.close()


class ServedClassifier:
    """Classifiers. Options: a ClassifierConfig, of which ``top`` is taken; answers: Classification."""

    task = "classify"

    def __init__(self, model: str, runtime: RuntimeConfig) -> None:
        self.classifier: EngineClassifier = build_frame_classifier(ClassifierConfig(model=model, top=0), runtime)
        self.class_names = self.classifier.class_names
        self.engine = engine_name(self.classifier)
        self.max_batch = 1

    def prepare(self, frame: Frame, options: ClassifierConfig | None = None) -> Any:
        """Return the network's input; every picture has the same size there."""
        return self.classifier.prepare(frame, 0 if options is None else options.top)

    def run(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """Return what each picture shows."""
        return self.classifier.classify_prepared(inputs)

    def close(self) -> None:
        """Let the network go."""
        self.classifier.close()


class ServedEmbedder:
    """Embedders. Options: boxes float32 [N, 4], None for the whole picture; answers: embeddings [N, D] of unit norm."""

    task = "embed"
    class_names: tuple[str, ...] = ()

    def __init__(self, model: str, runtime: RuntimeConfig) -> None:
        embedder = build_embedder(EmbedderConfig(model=model), runtime)
        if embedder is None:
            raise ConfigError(f"an embedder must be a model, got {model!r}; name one of stride32 models list")
        self.embedder: AppearanceEmbedder = embedder
        self.engine = engine_name(embedder)
        self.dim = embedder.dim
        self.max_batch = 1

    def prepare(self, frame: Frame, options: FloatArray | None = None) -> FrameInput:
        """Return the frame with its boxes; crops of any frames share a forward pass."""
        height, width = frame.size_hw
        return _Crops(frame, np.array([[0, 0, width, height]], np.float32) if options is None else options)

    def run(self, inputs: Sequence[FrameInput]) -> Sequence[FloatArray]:
        """Return the embeddings of each input's boxes."""
        if isinstance(self.embedder, Embedder):
            return self.embedder.embed_frames([item.frame for item in inputs], [item.options for item in inputs])
        return [self.embedder.embed(item.frame, item.options) for item in inputs]

    def close(self) -> None:
        """Let the network go."""
        self.embedder.close()


class _Crops(FrameInput):
    """Frames with boxes: of any size, for their crops have one."""

    __slots__ = ()

    @property
    def shape_key(self) -> Hashable:
        """All go together."""
        return "crops"


KINDS: dict[str, type[ServedDetector] | type[ServedSegmenter] | type[ServedClassifier] | type[ServedEmbedder]] = {
    "detector": ServedDetector,
    "segmenter": ServedSegmenter,
    "classifier": ServedClassifier,
    "embedder": ServedEmbedder,
}


def engine_name(stage: Any) -> str:
    """Return what runs a stage's network, or its class where that is not told."""
    engine = getattr(stage, "engine", None) or getattr(stage, "_engine", None)
    return str(getattr(engine, "name", type(stage).__name__))
