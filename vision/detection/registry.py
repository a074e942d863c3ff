"""Detectors by the family that their card names, and the thresholds that a card brings along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vision.card import ModelCard
from vision.detection.config import FALLBACK_CONF, DetectorConfig
from vision.detection.detector import Detector, load_anchor_detector
from vision.detection.device_detector import load_device_detector
from vision.detection.torchvision_detectors import (
    CARD_DETECTORS,
    COCO_DETECTORS,
    load_published,
    load_torchvision_detector,
    published_name,
)
from vision.detection.window import load_window_detector
from vision.errors import ConfigError, ModelError, ModelNotFoundError, closest_hint
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import resolve_device
from vision.store import find_model

Loader = Callable[[ModelCard, DetectorConfig, RuntimeConfig], Detector]


def load_anchor_family(card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig) -> Detector:
    """Return an anchor detector: all on the device on CUDA, through an engine on the CPU.

    ``runtime.engine=torch`` asks for the engine on CUDA too: the reference that the other must agree with.
    """
    if runtime.engine == "auto" and resolve_device(runtime.device).type == "cuda":
        return load_device_detector(card, config, runtime)
    return load_anchor_detector(card, config, runtime)


DEFAULT_FAMILY = "fpn-lite"  # cards from before there was a choice name none
LOADERS: dict[str, Loader] = {
    "fpn-lite": load_anchor_family,
    "retinanet": load_anchor_family,
    "ssd": load_anchor_family,
    "ssdlite": load_anchor_family,
    "window": load_window_detector,
    "torchvision": load_torchvision_detector,
}


def open_detector(config: DetectorConfig, runtime: RuntimeConfig) -> Detector:
    """Return the detector that ``config.model`` names: one of torchvision's COCO detectors, or a model with a card.

    Raises:
        ModelNotFoundError: nothing has that name. Otherwise as ``load_detector``.
    """
    name = published_name(config.model)
    if name is not None:
        return load_published(name, resolve_thresholds(config), runtime)
    if config.weights:
        raise ConfigError(
            f"detection.weights is for torchvision's detectors ({', '.join(COCO_DETECTORS)}), got {config.weights} "
            f"with model {config.model}, which has weights of its own; leave it out"
        )
    return load_detector(_find_card(config.model), config, runtime)


def resolve_thresholds(config: DetectorConfig) -> DetectorConfig:
    """Return the configuration with the numbers that the model ``config.model`` stands for in place of "auto".

    Outputs record this one, so that a result says which threshold made it.
    """
    name = published_name(config.model)
    if name is None:
        return with_card_thresholds(config, _find_card(config.model))
    iou = COCO_DETECTORS[name].nms_iou if config.iou == "auto" else config.iou
    return replace(config, conf=config.score_floor, iou=iou)


def _find_card(model: str) -> ModelCard:
    """Return the card of a model of the store; the error for an unknown name offers torchvision's detectors too."""
    try:
        return find_model(model, kind="detector")
    except ModelNotFoundError as exc:
        raise ModelNotFoundError(model, [*exc.known, *COCO_DETECTORS], kind="detector") from exc


def load_detector(card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig) -> Detector:
    """Return the detector that a model card describes, with "auto" thresholds taken from the card.

    Raises:
        ModelError: the card lacks a key, or names a family that this version does not know.
        WeightsError: the weights do not fit the card.
        ConfigError: a wanted class or the device does not exist, or the configuration names a weights file of its own.
    """
    family = card.architecture.get("family", DEFAULT_FAMILY)
    if family not in LOADERS:
        listing = ", ".join(LOADERS)
        raise ModelError(
            f"{card.name}: architecture.family must be one of {listing}, got {family!r}"
            f"{closest_hint(family, LOADERS)}; correct the card, or install a newer stride32",
            expected=listing,
            actual=str(family),
            path=card.folder,
        )
    return LOADERS[family](card, with_card_thresholds(config, card), runtime)


def with_card_thresholds(config: DetectorConfig, card: ModelCard) -> DetectorConfig:
    """Return the configuration with numbers for ``conf`` and ``iou``.

    ``conf`` is the configuration's own, else the card's best-F1 threshold, else 0.35. ``iou`` is the configuration's
    own, else what torchvision published its detector with, else 0.5.
    """
    published = CARD_DETECTORS.get(card.architecture.get("model", ""))
    iou = published.nms_iou if config.iou == "auto" and published is not None else config.nms_iou
    return replace(config, conf=_best_f1_conf(card) if config.conf == "auto" else config.conf, iou=iou)


def _best_f1_conf(card: ModelCard) -> float:
    for row in card.metrics:
        value = row.get("value")
        # 0 stands for a detector that found nothing at all: no threshold to take over.
        if row.get("name") == "f1_conf" and isinstance(value, int | float) and 0 < value <= 1:
            return float(value)
    return FALLBACK_CONF
