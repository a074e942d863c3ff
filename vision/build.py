"""From configuration to objects: the one place where names become classes."""

from __future__ import annotations

from dataclasses import replace

from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.detection.detector import Detector
from vision.detection.registry import load_detector, with_card_thresholds
from vision.pipeline import Pipeline
from vision.reid.config import EmbedderConfig
from vision.reid.embedder import Embedder, load_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import find_model
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker

NO_MODEL = "none"


def resolve_config(config: PipelineConfig) -> PipelineConfig:
    """Return the configuration with the thresholds that the detector's card decides in place of "auto".

    Outputs record this one, so that a result says which threshold made it.
    """
    card = find_model(config.detection.model, kind="detector")
    return replace(config, detection=with_card_thresholds(config.detection, card))


def build_detector(config: DetectorConfig, runtime: RuntimeConfig) -> Detector:
    """Return the configured detector; raises ModelNotFoundError for an unknown name."""
    return load_detector(find_model(config.model, kind="detector"), config, runtime)


def build_embedder(config: EmbedderConfig, runtime: RuntimeConfig) -> Embedder | None:
    """Return the configured embedder, or None for the model name "none"."""
    if config.model == NO_MODEL:
        return None
    return load_embedder(find_model(config.model, kind="embedder"), runtime, max_batch=config.max_batch)


def build_tracker(config: TrackerConfig) -> Tracker:
    """Return a new tracker; one for each stream."""
    return Tracker(config)


def build_pipeline(config: PipelineConfig, *, detect: bool = True, track: bool = True) -> Pipeline:
    """Return the pipeline of a configuration.

    Args:
        config: settings of all stages.
        detect: False when detections come from elsewhere; no detector is loaded.
        track: False to detect only; no embedder or tracker is loaded.
    """
    detector = build_detector(config.detection, config.runtime) if detect else None
    embeds = track and config.tracking.appearance
    embedder = build_embedder(config.embedding, config.runtime) if embeds else None
    tracker = build_tracker(config.tracking) if track else None
    return Pipeline(detector=detector, embedder=embedder, tracker=tracker)
