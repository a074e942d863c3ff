"""Which networks a job uses: names and digests, as they stand in its record and in every shard."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vision.card import ModelCard
from vision.config import PipelineConfig
from vision.detection.torchvision_detectors import published_name
from vision.errors import ModelNotFoundError
from vision.store import file_sha256, find_model


def model_digests(name: str, weights: str | Path = "") -> dict[str, str]:
    """Return name and digest of a model of the store, or of a checkpoint of torchvision's."""
    try:
        return _card_digests(find_model(name))
    except ModelNotFoundError:
        # Its networks were loaded by that name, so the file is one of torchvision's.
        from vision import remote

        return {"name": name, "sha256": file_sha256(Path(weights).expanduser() if weights else remote.require(name))}


def _card_digests(card: ModelCard) -> dict[str, str]:
    """Return what a result depends on: the weights, and how the card says that they are used."""
    used = (card.architecture, card.preprocess, card.labels)
    return {"name": card.name, "sha256": card.sha256, "card": hashlib.sha256(repr(used).encode()).hexdigest()}


def detector_digests(config: PipelineConfig) -> dict[str, str]:
    """Return name and digest of the detector that a configuration names."""
    settings = config.detection
    return model_digests(published_name(settings.model) or settings.model, settings.weights)


def classifier_digests(name: str) -> dict[str, str]:
    """Return name and digest of a classifier of the store, or of one whose network has a name of its own."""
    try:
        return _card_digests(find_model(name, kind="classifier"))
    except ModelNotFoundError:
        from vision.classification.registry import load_named_network

        return {"name": name, "sha256": load_named_network(name).digest}
