"""Segmenters by name: models with a card, and torchvision's."""

from __future__ import annotations

from vision.card import ModelCard
from vision.errors import ConfigError, ModelError, ModelNotFoundError
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import resolve_device
from vision.runtime.weights import card_value
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_segmenter import load_device_segmenter
from vision.segmentation.segmenter import EngineSegmenter, Segmenter, load_fcn
from vision.segmentation.tiles import TiledSegmenter
from vision.segmentation.torchvision_segmenters import VOC_SEGMENTERS, load_published, published_name
from vision.store import find_model, list_models

FCN_FAMILY = "fcn"


def open_segmenter(config: SegmenterConfig, runtime: RuntimeConfig) -> Segmenter:
    """Return the segmenter that ``config.model`` names, on tiles if ``tile`` says so.

    Raises:
        ModelNotFoundError: nothing has that name. ModelError, WeightsError: the model cannot be used.
        ConfigError: weights for a model that has its own.
    """
    if config.tile:
        segmenter = _with_engine(config, runtime)
        # A tile keeps its size unless the configuration scales it: the model's own size is one of whole pictures.
        segmenter.long_side = config.long_side
        return TiledSegmenter(segmenter, config)
    if _fits_device(config, runtime):
        return load_device_segmenter(_find_card(config), config, runtime)
    return _with_engine(config, runtime)


def _fits_device(config: SegmenterConfig, runtime: RuntimeConfig) -> bool:
    """Return whether an FCN runs all on the device, as on CUDA where classes are all that is wanted.

    ``runtime.engine=torch`` asks for the engine on CUDA too: the reference that the other must agree with.
    """
    wanted = published_name(config.model) is None and not config.scores and runtime.engine == "auto"
    return wanted and resolve_device(runtime.device).type == "cuda"


def _with_engine(config: SegmenterConfig, runtime: RuntimeConfig) -> EngineSegmenter:
    """Return the segmenter as it runs through an engine, which hands its logits out."""
    name = published_name(config.model)
    if name is not None:
        return load_published(name, config, runtime)
    return load_fcn(_find_card(config), config, runtime)


def _find_card(config: SegmenterConfig) -> ModelCard:
    """Return the card of an FCN of the store; the error for an unknown name offers torchvision's segmenters too."""
    if config.weights:
        raise ConfigError(
            f"segmentation.weights is for torchvision's segmenters ({', '.join(VOC_SEGMENTERS)}), got {config.weights} "
            f"with model {config.model}, which has weights of its own; leave it out"
        )
    try:
        card = find_model(config.model, kind="segmenter")
    except ModelNotFoundError as exc:
        own = [each.name for each in list_models() if each.kind == "segmenter"]
        raise ModelNotFoundError(config.model, [*own, *VOC_SEGMENTERS], kind="segmenter") from exc
    family = card_value(card, "architecture", "family")
    if family != FCN_FAMILY:
        raise ModelError(
            f"{card.name}: architecture.family must be {FCN_FAMILY}, got {family!r}; export the model again",
            expected=FCN_FAMILY,
            actual=str(family),
            path=card.folder,
        )
    return card
