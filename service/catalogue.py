"""Which models there are: those of the store, and published networks that the operator asks for by name."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from service.models import TASKS
from service.settings import NO_MODEL, Settings
from vision.card import ModelCard
from vision.classification.imagenet import PUBLISHED
from vision.detection.torchvision_detectors import published_name as published_detector
from vision.errors import ModelError
from vision.segmentation.torchvision_segmenters import published_name as published_segmenter
from vision.store import list_models

log = logging.getLogger(__name__)


def default_models(settings: Settings) -> dict[str, str]:
    """Return the name of the model of each task that requests get which name none."""
    names = {
        "detect": settings.detector,
        "segment": settings.segmenter,
        "classify": settings.classifier,
        "embed": settings.embedder,
    }
    return {task: name for task, name in names.items() if name != NO_MODEL}


class ModelCatalogue:
    """Looks at what there is, each time anew, and says once what is wrong with it."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def known(self, asked_for: Iterable[str]) -> dict[str, tuple[str, ModelCard | None]]:
        """Return kind and card of each model that could be served, by name; published networks have no card.

        Args:
            asked_for: names that may be those of published networks.
        """
        found: dict[str, tuple[str, ModelCard | None]] = {
            card.name: (card.kind, card) for card in list_models(self._warn_of) if card.kind in TASKS
        }
        for name in asked_for:
            kind = published_kind(name)
            if kind is not None:
                found.setdefault(name, (kind, None))
        return found

    def _warn_of(self, broken: ModelError) -> None:
        """Say once what is wrong with a card; the other models are none the worse."""
        message = str(broken)
        if message not in self._warned:
            self._warned.add(message)
            log.warning("a model of the store is left out: %s", message)


def published_kind(name: str) -> str | None:
    """Return the kind of a network that others have published with weights: torchvision's detectors and segmenters, and
    ImageNet classifiers; None for other names."""
    if published_detector(name) is not None:
        return "detector"
    if published_segmenter(name) is not None:
        return "segmenter"
    return "classifier" if name in PUBLISHED else None
