"""The detection stage: frames in, Detections out (preprocess -> engine -> decode -> NMS)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

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
from vision.geometry.letterbox import rows_by_shape
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps
from vision.runtime.preprocess import Normalization, preprocess
from vision.runtime.weights import card_value, load_into
from vision.types import Detections, Frame


class Detector(Protocol):
    """What the pipeline, evaluation and the service need of any detector."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        ...

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, in order; frames of any sizes."""
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
        letterboxes = [fit_frame(frame, self.long_side, self.multiple) for frame in frames]
        results: dict[int, tuple[Detections, FeatureMaps]] = {}
        for size_hw, rows in rows_by_shape(letterboxes).items():
            batch = np.stack([preprocess(frames[row].image, letterboxes[row], self.normalization) for row in rows])
            logits, deltas, *maps = self.engine.run(batch)
            if self._wanted_labels is not None:
                # Before decoding: an unwanted class must not use up max_det or suppress a wanted one.
                logits = logits[:, :, self._wanted_labels]
            anchors: Anchors = self._anchors_for(size_hw)
            for place, row in enumerate(rows):
                found = decode_detections(
                    torch.from_numpy(logits[place]),
                    torch.from_numpy(deltas[place]),
                    anchors.boxes,
                    letterboxes[row],
                    self.config,
                )
                own = FeatureMaps(
                    letterboxes[row], self.map_strides, tuple(feature[place] for feature in maps), self.digest
                )
                results[row] = relabel(found, self._wanted_labels), own
        return [results[row] for row in range(len(frames))]


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
        normalization=Normalization(
            tuple(card_value(card, "preprocess", "mean")), tuple(card_value(card, "preprocess", "std"))
        ),
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
