"""Detectors by the family that their card names, and the thresholds that a card brings along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vision.card import ModelCard
from vision.detection.config import FALLBACK_CONF, DetectorConfig
from vision.detection.detector import Detector, load_anchor_detector
from vision.detection.window import load_window_detector
from vision.errors import ModelError, closest_hint
from vision.runtime.config import RuntimeConfig

Loader = Callable[[ModelCard, DetectorConfig, RuntimeConfig], Detector]

DEFAULT_FAMILY = "fpn-lite"  # cards from before there was a choice name none
LOADERS: dict[str, Loader] = {
    "fpn-lite": load_anchor_detector,
    "retinanet": load_anchor_detector,
    "ssd": load_anchor_detector,
    "ssdlite": load_anchor_detector,
    "window": load_window_detector,
}


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

    ``conf`` is the configuration's own, else the card's best-F1 threshold, else 0.35.
    """
    return replace(config, conf=_best_f1_conf(card) if config.conf == "auto" else config.conf, iou=config.nms_iou)


def _best_f1_conf(card: ModelCard) -> float:
    for row in card.metrics:
        value = row.get("value")
        # 0 stands for a detector that found nothing at all: no threshold to take over.
        if row.get("name") == "f1_conf" and isinstance(value, int | float) and 0 < value <= 1:
            return float(value)
    return FALLBACK_CONF
