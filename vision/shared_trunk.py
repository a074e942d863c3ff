"""Detector and segmenter on one trunk: first stages of the backbone that both have are computed once a frame.

Both were trained with these stages frozen, so their weights are the same numbers. Stands between ``build`` and the two
packages that it joins, which do not know each other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vision.card import ModelCard
from vision.detection.architecture import FAMILIES
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector, load_anchor_detector
from vision.detection.feature_maps import BackboneMaps, MapExtractor
from vision.detection.registry import DEFAULT_FAMILY, with_card_thresholds
from vision.detection.torchvision_detectors import published_name as published_detector
from vision.errors import ModelNotFoundError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput, build_engine
from vision.runtime.feature_maps import FeatureMaps
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.fcn import FCN
from vision.segmentation.from_maps import MapSegmenter, load_map_segmenter
from vision.segmentation.registry import FCN_FAMILY
from vision.segmentation.segmenter import load_network
from vision.segmentation.torchvision_segmenters import published_name as published_segmenter
from vision.single_pass import SinglePassDetector
from vision.store import find_model, load_weights
from vision.types import Detections, Frame, SegmentationMap

log = logging.getLogger(__name__)

NOTHING = torch.empty(0)


class SharedTrunk:
    """A detector and a segmenter, the latter going on from the former's feature maps; stateless between calls."""

    def __init__(self, detector: AnchorDetector | SinglePassDetector, segmenter: MapSegmenter) -> None:
        self.detector = detector
        self.segmenter = segmenter

    def detect(self, frame: Frame) -> tuple[Detections, FeatureMaps]:
        """Return the detections of a frame and the maps that ``segment`` wants."""
        return self.detector.detect_with_maps([frame])[0]

    def segment(self, maps: FeatureMaps) -> SegmentationMap:
        """Return the segmentation of the frame that left these maps."""
        return self.segmenter.segment_maps([maps])[0]


@dataclass(frozen=True, slots=True)
class CommonStages:
    """What a configured detector and segmenter have in common.

    Attributes:
        detector, segmenter: their cards.
        network: the segmenter's.
        stride: of the last map that is common and of use to the segmenter.
    """

    detector: ModelCard
    segmenter: ModelCard
    network: FCN
    stride: int


def find_common_stages(detection: DetectorConfig, segmentation: SegmenterConfig) -> CommonStages | None:
    """Return what a detector and a segmenter can share, or None; logs why not.

    They share stages if both are networks of ours on the same backbone with the same weights there, see the frame at
    the same size, and neither cuts it into tiles.
    """
    cards = _cards(detection, segmentation)
    reason = "one of them has no backbone of ours" if cards is None else _difference(*cards, detection, segmentation)
    if cards is None or reason:
        log.info("detector and segmenter each run whole: %s", reason)
        return None
    network = load_network(cards[1])
    stride = _common_stride(load_weights(cards[0]), network)
    if not stride:
        log.info("detector and segmenter each run whole: their first stages have different weights")
        return None
    return CommonStages(*cards, network, stride)


def _cards(detection: DetectorConfig, segmentation: SegmenterConfig) -> tuple[ModelCard, ModelCard] | None:
    """Return the cards of an anchor detector and an FCN; None where one is something else, or unknown.

    Unknown models are told by whatever loads them for good.
    """
    if published_detector(detection.model) is not None or published_segmenter(segmentation.model) is not None:
        return None
    if detection.weights or segmentation.weights:
        return None  # a mistake, which those who load the models for good explain
    try:
        detector = find_model(detection.model, kind="detector")
        segmenter = find_model(segmentation.model, kind="segmenter")
    except ModelNotFoundError:
        return None
    own = detector.architecture.get("family", DEFAULT_FAMILY) in FAMILIES
    return (detector, segmenter) if own and segmenter.architecture.get("family") == FCN_FAMILY else None


def _difference(
    detector: ModelCard, segmenter: ModelCard, detection: DetectorConfig, segmentation: SegmenterConfig
) -> str:
    """Return why the two see a frame differently, or nothing if they see the same."""
    if detection.tile or segmentation.tile:
        return "tiles are cut for one of them"
    if detector.architecture.get("backbone") != segmenter.architecture.get("backbone"):
        return f"{detector.name} and {segmenter.name} have different backbones"
    sizes = [
        own or card.preprocess.get("long_side")
        for own, card in ((detection.long_side, detector), (segmentation.long_side, segmenter))
    ]
    if sizes[0] != sizes[1]:
        return f"they see frames at {sizes[0]} and {sizes[1]} pixels; set segmentation.long_side={sizes[0]} to share"
    if any(detector.preprocess.get(key) != segmenter.preprocess.get(key) for key in ("mean", "std")):
        return "they normalize colours differently"
    # Padding reaches pixels near the lower and right border: the answer would not be the segmenter's own.
    if detector.preprocess.get("multiple") != segmenter.preprocess.get("multiple"):
        return "they pad frames to multiples of different numbers"
    return ""


def _common_stride(weights: Mapping[str, Tensor], network: FCN) -> int:
    """Return the stride of the last stage with the detector's ``weights`` that the FCN can go on from; 0 for none."""
    backbone = network.backbone
    if any(backbone.trim):
        return 0
    common = 0
    for index, (stride, stage) in enumerate(zip(backbone.strides, backbone.stages, strict=True)):
        same = all(
            torch.equal(tensor, weights.get(f"backbone.stages.{index}.{key}", NOTHING))
            for key, tensor in stage.state_dict().items()
            if not key.endswith("num_batches_tracked")  # counts training steps and changes no result
        )
        if not same or stride > network.stride:
            break
        common = stride
    return common


def load_detector_with_maps(common: CommonStages, config: DetectorConfig, runtime: RuntimeConfig) -> AnchorDetector:
    """Return the configured detector, which hands out the common map beside its detections."""
    settings = with_card_thresholds(config, common.detector)
    return load_anchor_detector(common.detector, settings, runtime, map_strides=(common.stride,))


def join(
    common: CommonStages,
    detector: AnchorDetector | SinglePassDetector,
    config: SegmenterConfig,
    runtime: RuntimeConfig,
) -> SharedTrunk:
    """Return detector and segmenter on one trunk.

    Args:
        common: what they share.
        detector: loaded with the common map among its ``map_strides``.
        config, runtime: of the segmenter.
    """
    anchor = detector.detector if isinstance(detector, SinglePassDetector) else detector
    spec = EngineInput((4 * anchor.multiple,) * 2, dynamic_hw=True, digest=common.segmenter.sha256)
    source = MapExtractor(
        build_engine(BackboneMaps(common.network.backbone, (common.stride,)), spec, runtime),
        strides=(common.stride,),
        multiple=anchor.multiple,
        normalization=anchor.normalization,
        long_side=anchor.long_side,
        digest=anchor.digest,
    )
    segmenter = load_map_segmenter(
        common.segmenter,
        common.network,
        config,
        runtime,
        stride=common.stride,
        digest=anchor.digest,
        source=source,
    )
    log.info("detector and segmenter share the stages up to stride %d", common.stride)
    return SharedTrunk(detector, segmenter)
