"""From configuration to objects: the one place where names become classes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vision.bank import PipelineBank
from vision.classification.classifier import EngineClassifier
from vision.classification.config import ClassifierConfig
from vision.classification.registry import load_named_classifier, load_named_network, with_card_threshold
from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector, Detector
from vision.detection.registry import open_detector, resolve_thresholds
from vision.detection.tiles import TiledDetector
from vision.pipeline import Pipeline
from vision.reid.appearance import AppearanceEmbedder
from vision.reid.config import EmbedderConfig
from vision.reid.embedder import Embedder, load_embedder
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.registry import open_segmenter
from vision.segmentation.segmenter import Segmenter
from vision.shared_trunk import CommonStages, find_common_stages, join, load_detector_with_maps
from vision.single_pass import SinglePassDetector, is_single_pass, load_single_pass, load_with_backbone
from vision.store import ModelCard, find_model
from vision.tracking.bank import MAX_STREAMS, EmbedFrames, TrackerBank
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker

if TYPE_CHECKING:
    from vision.classification.heat import HeatAnnotator

NO_MODEL = "none"
# Below this a detector's output is noise by the hundred, which costs time and continues no track.
MIN_DETECTION_CONF = 0.05


def resolve_config(config: PipelineConfig, *, track: bool = True) -> PipelineConfig:
    """Return the configuration with the thresholds that detector and tracker decide in place of "auto".

    A tracker that continues tracks with unsure detections must be given them, so the detector then keeps lower scores
    than it would alone. Outputs record the result.
    """
    detection, tracking = resolve_thresholds(config.detection), config.tracking
    if track and config.detection.conf == "auto" and tracking.low_conf < tracking.high_conf:
        # Shares of a typical score: that of a detector is above a half, or its thresholds would be.
        lowest = tracking.low_conf / 2 if tracking.relative_conf else tracking.low_conf
        detection = replace(detection, conf=min(detection.score_floor, max(lowest, MIN_DETECTION_CONF)))
    return replace(config, detection=detection)


def build_detector(config: DetectorConfig, runtime: RuntimeConfig) -> Detector:
    """Return the configured detector, on tiles if ``tile`` says so; raises ModelNotFoundError for an unknown name."""
    if not config.tile:
        return open_detector(config, runtime)
    # max_det holds for the picture: a tile must not lose what merging would have kept.
    in_tile = replace(config, max_det=max(config.max_det, config.pre_nms))
    return TiledDetector(open_detector(in_tile, runtime), config)


def build_embedder(
    config: EmbedderConfig, runtime: RuntimeConfig, detection: DetectorConfig | None = None
) -> AppearanceEmbedder | None:
    """Return the configured embedder, or None for the model name "none".

    A single-pass embedder comes with the backbone of its detector, at the scale that ``detection`` says.
    """
    card = _embedder_card(config)
    if card is None:
        return None
    if is_single_pass(card):
        return load_with_backbone(
            card, runtime, max_batch=config.max_batch, detection=detection, crop_height=config.crop_height
        )
    return load_embedder(card, runtime, max_batch=config.max_batch)


def _embedder_card(config: EmbedderConfig) -> ModelCard | None:
    """Return the card of the configured embedder of either kind, or None for the model name "none"."""
    if config.model == NO_MODEL:
        return None
    card = find_model(config.model)
    # Asked for again by kind: the error for another kind lists the embedders there are.
    return card if is_single_pass(card) else find_model(config.model, kind="embedder")


def build_frame_classifier(config: ClassifierConfig, runtime: RuntimeConfig) -> EngineClassifier:
    """Return the configured classifier of whole frames; raises ModelNotFoundError for an unknown name."""
    return load_named_classifier(config, runtime)


def build_segmenter(config: SegmenterConfig, runtime: RuntimeConfig) -> Segmenter:
    """Return the configured segmenter, on tiles if ``tile`` says so; raises ModelNotFoundError for an unknown name."""
    return open_segmenter(config, runtime)


def build_heat_annotator(config: ClassifierConfig, runtime: RuntimeConfig) -> HeatAnnotator:
    """Return what draws heat maps of the configured classifier; raises ConfigError where it can have none."""
    from vision.classification.heat import HeatAnnotator, build_heat_mapper, heat_label

    mapper = build_heat_mapper(load_named_network(config.model), config, runtime)
    return HeatAnnotator(mapper, heat_label(config, mapper.readout))


def resolve_classifier(config: PipelineConfig) -> PipelineConfig:
    """Return the configuration with the threshold that the classifier's card decides in place of "auto"."""
    return replace(config, classification=with_card_threshold(config.classification))


def build_tracker(config: TrackerConfig) -> Tracker:
    """Return a new tracker; one for each stream."""
    return Tracker(config)


def build_camera_motion(config: TrackerConfig) -> CameraMotion | None:
    """Return a new estimator of camera motion, one for each stream, or None where the configuration wants none."""
    return None if config.camera_motion == "none" else CameraMotion(config.camera_motion)


def build_pipeline(
    config: PipelineConfig, *, detect: bool = True, track: bool = True, segment: bool = False, classify: bool = False
) -> Pipeline:
    """Return the pipeline of a configuration.

    Args:
        config: settings of all stages.
        detect: False when detections come from elsewhere; no detector is loaded.
        track: False to detect only; no embedder or tracker is loaded.
        segment: True to give every pixel a class as well.
        classify: True to classify whole frames as well.
    """
    common = find_common_stages(config.detection, config.segmentation) if detect and segment else None
    detector, embedder = _build_networks(
        config, detect=detect, embed=track and config.tracking.appearance, common=common
    )
    segmenter, trunk = None, None
    if common is not None and isinstance(detector, AnchorDetector | SinglePassDetector):
        trunk = join(common, detector, config.segmentation, config.runtime)
    elif segment:
        segmenter = build_segmenter(config.segmentation, config.runtime)
    return Pipeline(
        detector=detector,
        embedder=embedder,
        camera=build_camera_motion(config.tracking) if track else None,
        tracker=build_tracker(config.tracking) if track else None,
        segmenter=segmenter,
        classifier=build_frame_classifier(config.classification, config.runtime) if classify else None,
        trunk=trunk,
    )


def build_bank(config: PipelineConfig, *, detect: bool = True, max_streams: int = MAX_STREAMS) -> PipelineBank:
    """Return the pipeline of many streams: one detector and one embedder, a tracker and camera motion for each stream.

    Args:
        config: settings of all stages; those of the tracker hold for streams that are opened without their own.
        detect: False when detections come from elsewhere; no detector is loaded.
        max_streams: most streams at a time.
    """
    detector, embedder = _build_networks(config, detect=detect, embed=config.tracking.appearance)
    trackers = TrackerBank(config.tracking, embed=_embed_frames(embedder), max_streams=max_streams)
    return PipelineBank(detector=detector, trackers=trackers)


def _embed_frames(embedder: AppearanceEmbedder | None) -> EmbedFrames | None:
    """Return what embeds several frames at once; feature maps belong to one frame, so those go one by one."""
    if embedder is None:
        return None
    if isinstance(embedder, Embedder):
        return embedder.embed_frames
    return lambda frames, boxes: [embedder.embed(frame, own) for frame, own in zip(frames, boxes, strict=True)]


def _build_networks(
    config: PipelineConfig, *, detect: bool, embed: bool, common: CommonStages | None = None
) -> tuple[Detector | None, AppearanceEmbedder | None]:
    """Return detector and embedder; a single-pass embedder is part of its detector.

    A detector that has stages in common with the segmenter also hands out their map.
    """
    embedder_card = _embedder_card(config.embedding) if embed else None
    detector: Detector | None = None
    embedder: AppearanceEmbedder | None = None
    if detect and embedder_card is not None and is_single_pass(embedder_card):
        detector = load_single_pass(
            embedder_card,
            config.detection,
            config.runtime,
            max_batch=config.embedding.max_batch,
            map_strides=() if common is None else (common.stride,),
        )
    else:
        if detect and common is not None:
            detector = load_detector_with_maps(common, config.detection, config.runtime)
        elif detect:
            detector = build_detector(config.detection, config.runtime)
        if embedder_card is not None:
            embedder = build_embedder(config.embedding, config.runtime, config.detection)
    return detector, embedder
