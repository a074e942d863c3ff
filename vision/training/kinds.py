"""The kinds of models that can be trained, by the name that the command line gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vision.errors import ConfigError, closest_hint

if TYPE_CHECKING:
    from vision.training.config import TrainingConfig
    from vision.training.recipe import Recipe

KINDS = ("detector", "embedder", "classifier", "segmenter", "window", "roi-embedder")


def check_kind(kind: str) -> str:
    """Return ``kind``; raises ConfigError when nothing of that name can be trained."""
    if kind not in KINDS:
        raise ConfigError(
            f"the kind of model must be one of {', '.join(KINDS)}, got {kind!r}{closest_hint(kind, KINDS)}; pick one",
            expected=", ".join(KINDS),
            actual=kind,
        )
    return kind


def config_class(kind: str) -> type[TrainingConfig]:
    """Return the dataclass of the settings of a kind; loads no torch."""
    match check_kind(kind):
        case "detector":
            from vision.training.config import DetectorTrainingConfig

            return DetectorTrainingConfig
        case "embedder":
            from vision.training.embedder_config import EmbedderTrainingConfig

            return EmbedderTrainingConfig
        case "classifier":
            from vision.training.classifier_config import ClassifierTrainingConfig

            return ClassifierTrainingConfig
        case "segmenter":
            from vision.training.segmenter_config import SegmenterTrainingConfig

            return SegmenterTrainingConfig
        case "roi-embedder":
            from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig

            return RoiEmbedderTrainingConfig
        case _:
            from vision.training.window_config import WindowTrainingConfig

            return WindowTrainingConfig


def recipe_of(kind: str) -> Recipe[Any]:
    """Return how a kind is trained."""
    match check_kind(kind):
        case "detector":
            from vision.training.fit import DETECTOR

            return DETECTOR
        case "embedder":
            from vision.training.fit_embedder import EMBEDDER

            return EMBEDDER
        case "classifier":
            from vision.training.fit_classifier import CLASSIFIER

            return CLASSIFIER
        case "segmenter":
            from vision.training.fit_segmenter import SEGMENTER

            return SEGMENTER
        case "roi-embedder":
            from vision.training.fit_roi_embedder import ROI_EMBEDDER

            return ROI_EMBEDDER
        case _:
            from vision.training.fit_window import WINDOW

            return WINDOW
