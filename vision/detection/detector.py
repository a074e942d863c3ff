"""The detection stage: frames in, Detections out (preprocess -> engine -> decode -> NMS)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.detection.anchors import AnchorConfig, Anchors, make_anchors
from vision.detection.architecture import architecture_from, build_network
from vision.detection.classes import relabel, wanted_labels
from vision.detection.config import DetectorConfig
from vision.detection.decode import decode_detections
from vision.detection.feature_maps import DetectorWithMaps, fit_frame
from vision.detection.network import AnchorDetectorNetwork
from vision.geometry.letterbox import Letterbox, rows_by_shape
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps
from vision.runtime.preprocess import Normalization, preprocess
from vision.runtime.weights import card_normalization, card_value, load_into
from vision.types import Detections, FloatArray, Frame, IntArray


class Detector(Protocol):
    """What the pipeline, evaluation and the service need of any detector."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        ...

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, in order; frames of any sizes."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DetectorInput:
    """One frame made ready for the network, and how its outputs are to be read.

    Attributes:
        planes: float32 [3, H, W], the network's input.
        letterbox: the map that made it.
        config: thresholds of this frame.
        wanted: int64 labels that are kept; None keeps all.
    """

    planes: FloatArray
    letterbox: Letterbox
    config: DetectorConfig
    wanted: IntArray | None

    @property
    def shape_key(self) -> Hashable:
        """Inputs with equal keys can share a batch."""
        return self.letterbox.padded_hw

    @property
    def nbytes(self) -> int:
        """Memory that waiting for the network takes."""
        return self.planes.nbytes


@runtime_checkable
class PreparedDetector(Detector, Protocol):
    """A detector whose work splits in two: what any thread may do for one frame, and what the network does for a batch.

    ``detect`` of a frame gives what ``prepare`` and ``detect_prepared`` give.
    """

    config: DetectorConfig

    def prepare(self, frame: Frame, config: DetectorConfig | None = None) -> Any:
        """Return the frame's input, with thresholds of its own if given: conf, iou, max_det, pre_nms, class_agnostic,
        classes and long_side (0 for the model's own) are taken from there. Its ``shape_key`` and ``nbytes`` are those
        of DetectorInput."""
        ...

    def detect_prepared(self, inputs: Sequence[Any]) -> list[Detections]:
        """Return the detections of inputs that have one ``shape_key``, as one batch."""
        ...


class AnchorDetector:
    """Runs an AnchorDetectorNetwork through an engine. Stateless between calls: safe to share by threads.

    Args:
        engine: of the network; of a DetectorWithMaps where ``map_strides`` are given.
        anchors, multiple, class_names, normalization, long_side: what the network was made with.
        config: thresholds, and another ``long_side`` if it is not 0.
        map_strides: strides of the backbone's maps that the engine returns after logits and deltas.
        digest: sha256 of the weights file, which the maps carry.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        anchors: AnchorConfig,
        multiple: int,
        class_names: tuple[str, ...],
        normalization: Normalization,
        long_side: int,
        config: DetectorConfig,
        map_strides: tuple[int, ...] = (),
        digest: str = "",
    ) -> None:
        self.engine = engine
        self.class_names = class_names
        self.normalization = normalization
        self.long_side = config.long_side or long_side
        self._native_long_side = long_side
        self.config = config
        self.multiple = multiple
        self.map_strides = map_strides
        self.digest = digest
        self._wanted_labels = wanted_labels(config.classes, class_names)
        # A video has one size; a few more serve directories of pictures.
        self._anchors_for = lru_cache(maxsize=32)(lambda size_hw: make_anchors(anchors, size_hw))

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame.

        Frames whose network inputs have the same shape run as one batch. The shape depends on the frame alone, so a
        frame gives the same result in any company.
        """
        return [found for found, _ in self.detect_with_maps(frames)]

    def detect_with_maps(self, frames: Sequence[Frame]) -> list[tuple[Detections, FeatureMaps]]:
        """Return the detections of each frame as ``detect`` does, with the maps of the same forward pass.

        The maps are none unless the detector was loaded with ``map_strides``.
        """
        inputs = [self.prepare(frame) for frame in frames]
        results: dict[int, tuple[Detections, FeatureMaps]] = {}
        for rows in rows_by_shape([item.letterbox for item in inputs]).values():
            answers = self._run([inputs[row] for row in rows])
            results |= zip(rows, answers, strict=True)
        return [results[row] for row in range(len(frames))]

    def prepare(self, frame: Frame, config: DetectorConfig | None = None) -> DetectorInput:
        """Return the network's input of a frame; see PreparedDetector. Raises ConfigError for an unknown class."""
        if config is None or config is self.config:
            config, wanted, long_side = self.config, self._wanted_labels, self.long_side
        else:
            wanted = wanted_labels(config.classes, self.class_names)
            long_side = config.long_side or self._native_long_side
        letterbox = fit_frame(frame, long_side, self.multiple)
        return DetectorInput(preprocess(frame.image, letterbox, self.normalization), letterbox, config, wanted)

    def detect_prepared(self, inputs: Sequence[DetectorInput]) -> list[Detections]:
        """Return the detections of inputs of one shape, as one batch."""
        return [found for found, _ in self._run(inputs)]

    def _run(self, inputs: Sequence[DetectorInput]) -> list[tuple[Detections, FeatureMaps]]:
        """Return detections and maps of inputs of one shape."""
        logits, deltas, *maps = self.engine.run(np.stack([item.planes for item in inputs]))
        anchors: Anchors = self._anchors_for(inputs[0].letterbox.padded_hw)
        results = []
        for place, item in enumerate(inputs):
            # Before decoding: an unwanted class must not use up max_det or suppress a wanted one.
            own = logits[place] if item.wanted is None else logits[place][:, item.wanted]
            found = decode_detections(
                torch.from_numpy(own), torch.from_numpy(deltas[place]), anchors.boxes, item.letterbox, item.config
            )
            own_maps = tuple(feature[place] for feature in maps)
            results.append(
                (
                    relabel(found, item.wanted),
                    FeatureMaps(item.letterbox, self.map_strides, own_maps, self.digest),
                )
            )
        return results


def load_anchor_detector(
    card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig, *, map_strides: tuple[int, ...] = ()
) -> AnchorDetector:
    """Return the anchor detector that a model card describes.

    Args:
        card, config, runtime: model, thresholds, and where it runs.
        map_strides: strides of the backbone's maps to return as well; () exports the graph without them.

    Raises:
        ModelError: the card lacks a key.
        WeightsError: the weights do not fit the card.
        ConfigError: a wanted class or the device does not exist, or the backbone has no map of a stride.
    """
    network = load_network(card)
    spec = EngineInput(example_hw=(4 * network.multiple,) * 2, dynamic_hw=True, digest=card.sha256)
    return AnchorDetector(
        build_engine(DetectorWithMaps(network, map_strides) if map_strides else network, spec, runtime),
        anchors=network.anchors,
        multiple=network.multiple,
        class_names=card.labels,
        normalization=card_normalization(card),
        long_side=int(card_value(card, "preprocess", "long_side")),
        config=config,
        map_strides=map_strides,
        digest=card.sha256,
    )


def load_network(card: ModelCard) -> AnchorDetectorNetwork:
    """Return the network of a card with its weights, in evaluation mode."""
    for key in ("backbone", "channels", "head_depth", "anchors"):
        card_value(card, "architecture", key)
    architecture = architecture_from(card.architecture)
    network = build_network(architecture, build_backbone(architecture.backbone), num_classes=len(card.labels))
    load_into(network, card)
    return network.eval()
