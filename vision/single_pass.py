"""Detection and appearance from one forward pass: the detector's own feature maps go on to a RoiEmbedder.

Stands between ``build`` and the two packages that it joins, which do not know each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from vision.card import ModelCard
from vision.detection.config import DetectorConfig
from vision.detection.detector import AnchorDetector, load_anchor_detector, load_network
from vision.detection.feature_maps import MapExtractor, load_map_extractor
from vision.detection.registry import with_card_thresholds
from vision.detection.torchvision_detectors import published_name
from vision.errors import ConfigError, ModelError, ModelNotFoundError
from vision.reid.config import CROP_HEIGHT
from vision.reid.roi import KIND, RoiEmbedder, card_strides, load_roi_embedder
from vision.runtime.config import RuntimeConfig
from vision.runtime.feature_maps import FeatureMaps
from vision.runtime.weights import card_value
from vision.store import find_model
from vision.types import Detections, Frame


class SinglePassDetector:
    """A detector whose detections have embeddings already; stateless between calls.

    In a pipeline it takes the place of both stages; its time counts as ``detect``.
    """

    def __init__(self, detector: AnchorDetector, embedder: RoiEmbedder) -> None:
        self.detector = detector
        self.embedder = embedder

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.detector.class_names

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, with the embedding of each."""
        return [found for found, _ in self.detect_with_maps(frames)]

    def detect_with_maps(self, frames: Sequence[Frame]) -> list[tuple[Detections, FeatureMaps]]:
        """Return what ``detect`` returns, with all maps of the detector."""
        strides = self.embedder.strides
        return [
            (found.with_embeddings(self.embedder.embed_maps(maps.select(strides), found.boxes)), maps)
            for found, maps in self.detector.detect_with_maps(frames)
        ]


def load_single_pass(
    card: ModelCard,
    detection: DetectorConfig,
    runtime: RuntimeConfig,
    *,
    max_batch: int,
    map_strides: tuple[int, ...] = (),
) -> SinglePassDetector:
    """Return the configured detector with the single-pass embedder of ``card`` on its maps.

    Args:
        card, detection, runtime, max_batch: embedder, detector, and how both run.
        map_strides: of maps that others want of the detector.

    Raises:
        ConfigError: the detector is not the one that the embedder was trained on, or searches in tiles.
    """
    detector_card = _running_detector(card, detection)
    detector = load_anchor_detector(
        detector_card,
        with_card_thresholds(detection, detector_card),
        runtime,
        map_strides=tuple(sorted({*card_strides(card), *map_strides})),
    )
    return SinglePassDetector(detector, load_roi_embedder(card, runtime, max_batch=max_batch))


def load_with_backbone(
    card: ModelCard,
    runtime: RuntimeConfig,
    *,
    max_batch: int,
    detection: DetectorConfig | None = None,
    crop_height: int = CROP_HEIGHT,
) -> RoiEmbedder:
    """Return the single-pass embedder of ``card`` with its detector's backbone, for boxes or crops from elsewhere.

    Args:
        card, runtime, max_batch, crop_height: see ``load_roi_embedder``.
        detection: says the size of the network's input, and where the detector lies if the store does not know it.

    Raises:
        ModelError: no detector with the weights that the card names is there.
    """
    detection = detection or DetectorConfig()
    source = _load_backbone(card, detection, runtime)
    return load_roi_embedder(card, runtime, maps=source, max_batch=max_batch, crop_height=crop_height)


def is_single_pass(card: ModelCard) -> bool:
    """Return whether a card is a single-pass embedder's."""
    return card.kind == KIND


def _running_detector(card: ModelCard, detection: DetectorConfig) -> ModelCard:
    """Return the card of the detector that is configured, if it is the one that the embedder belongs to."""
    if detection.tile:
        raise ConfigError(
            f"{card.name} reads the feature maps of one pass over the whole frame, got detection.tile="
            f"{detection.tile}; leave the tiles out, or take an embedder of crops: embedding.model=reid-lite"
        )
    if published_name(detection.model) is not None:
        raise _wrong_detector(card, f"{detection.model}, one of torchvision's")
    running = find_model(detection.model, kind="detector")
    if running.sha256 != _digest(card):
        raise _wrong_detector(card, f"{running.name} (sha256 {running.sha256[:12]})")
    return running


def _load_backbone(card: ModelCard, detection: DetectorConfig, runtime: RuntimeConfig) -> MapExtractor:
    """Return the extractor of the card's detector: the configured one if that is it, else by the card's name for it."""
    for name in dict.fromkeys((detection.model, _name(card))):
        try:
            found = find_model(name, kind="detector")
        except ModelNotFoundError:
            continue
        if found.sha256 == _digest(card):
            network = load_network(found)
            return load_map_extractor(found, network, card_strides(card), runtime, long_side=detection.long_side)
    raise ModelError(
        f"{card.name} needs the backbone of {_name(card)} (sha256 {_digest(card)[:12]}), found no detector with these "
        "weights; set detection.model to its folder, or train the embedder again on the detector that you have",
        expected=_digest(card),
        path=card.folder,
    )


def _wrong_detector(card: ModelCard, running: str) -> ConfigError:
    return ConfigError(
        f"{card.name} reads the feature maps of {_name(card)} (sha256 {_digest(card)[:12]}), the running detector is "
        f"{running}; use that detector, take an embedder of crops (embedding.model=reid-lite), or train one with "
        "stride32 train roi-embedder",
        expected=_name(card),
        actual=running,
    )


def _name(card: ModelCard) -> str:
    return str(card_value(card, "architecture", "detector"))


def _digest(card: ModelCard) -> str:
    return str(card_value(card, "architecture", "detector_sha256"))
