"""Segmenters by name: models with a card, and torchvision's."""

from __future__ import annotations

from vision.errors import ConfigError, ModelError, ModelNotFoundError
from vision.runtime.config import RuntimeConfig
from vision.runtime.weights import card_value
from vision.segmentation.config import SegmenterConfig
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
    if not config.tile:
        return _open(config, runtime)
    segmenter = _open(config, runtime)
    # A tile keeps its size unless the configuration scales it: the model's own size is one of whole pictures.
    segmenter.long_side = config.long_side
    return TiledSegmenter(segmenter, config)


def _open(config: SegmenterConfig, runtime: RuntimeConfig) -> EngineSegmenter:
    name = published_name(config.model)
    if name is not None:
        return load_published(name, config, runtime)
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
    return load_fcn(card, config, runtime)
