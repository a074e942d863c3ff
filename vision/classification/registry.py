"""Classifiers by name: a model of the store first, then a backbone with its published ImageNet weights."""

from __future__ import annotations

from dataclasses import replace

from vision.card import ModelCard
from vision.classification.classifier import EngineClassifier, LoadedNetwork, load_network, start_engine
from vision.classification.config import ClassifierConfig
from vision.classification.imagenet import PUBLISHED, load_imagenet_network
from vision.classification.readout import Readout
from vision.errors import ModelNotFoundError
from vision.runtime.config import RuntimeConfig
from vision.store import find_model


def load_named_classifier(config: ClassifierConfig, runtime: RuntimeConfig) -> EngineClassifier:
    """Return the classifier that the configuration names.

    Raises:
        ModelNotFoundError: nothing has that name; lists what has.
        ModelError: the model is of another kind, or published weights are not on this machine.
        WeightsError: the weights do not fit.
    """
    return start_engine(load_named_network(config.model), config, runtime)


def load_named_network(name: str) -> LoadedNetwork:
    """Return the network of that name with its weights; raises as ``load_named_classifier``."""
    card = _card_or_none(name)
    return load_imagenet_network(name) if card is None else load_network(card)


def with_card_threshold(config: ClassifierConfig) -> ClassifierConfig:
    """Return the configuration with a number for ``threshold``; raises ModelNotFoundError for an unknown model."""
    card = _card_or_none(config.model)
    if config.threshold != "auto" or card is None:
        return config
    return replace(config, threshold=Readout.from_card(card.architecture, card.labels).threshold)


def _card_or_none(name: str) -> ModelCard | None:
    """Return the card of that name, None for the name of published weights."""
    try:
        return find_model(name, kind="classifier")
    except ModelNotFoundError as exc:
        if name in PUBLISHED:
            return None
        raise ModelNotFoundError(name, [*exc.known, *PUBLISHED], kind="classifier") from None
