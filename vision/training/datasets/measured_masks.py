"""The pictures with masks that a finished segmenter is measured on, and how their masks are to be read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from vision.errors import ConfigError
from vision.training.datasets.mask_layouts import MaskedPicture, find_parts
from vision.training.datasets.masks import MaskFormat
from vision.training.datasets.palettes import find_palette
from vision.training.datasets.segmentation_data import NAMES_FILE, class_names_of, named_classes
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)


def measured_pictures(data: Path, *, holdout: float = 0.0) -> tuple[MaskedPicture, ...]:
    """Return the validation part of ``data`` if it has one, else all of its pictures.

    Args:
        data: a folder as for training.
        holdout: with a share in (0, 1), of the pictures that have no parts only those that a training with this
            ``val_fraction`` holds out.

    Raises:
        InvalidInputError: the folder is missing or of no known layout, or a picture has no mask.
    """
    train, val = find_parts(data)
    if val or not holdout:
        return val or train
    return tuple(hold_out(train, holdout, lambda pair: pair.image)[1])


def measured_format(
    data: Path,
    model_names: Sequence[str],
    *,
    classes: Sequence[str] = (),
    ignore: int = 255,
    palette: str = "index",
) -> MaskFormat:
    """Return how the masks of ``data`` are to be read; where nobody names their classes they are the model's.

    Args:
        data: a folder as for training.
        model_names: of the model's labels, in their order; empty where the model gives its labels new numbers.
        classes: names of the mask values 0, 1, 2, ..., in place of what the data says.
        ignore: mask value that is no class.
        palette: "index", "voc", "camvid" or a file.

    Raises:
        ConfigError: an unknown palette, or the classes have to be named.
        InvalidInputError: the names that are given or found cannot be used; says why.
    """
    colours = find_palette(palette)
    named = named_classes(data, classes, colours)
    if not named and not model_names:
        raise ConfigError(
            f"a model that keeps some of its classes needs the masks' classes by name, nobody names those of {data}; "
            f"give --mask-classes, or {NAMES_FILE} beside the pictures"
        )
    if not named:
        log.info("nobody names the classes of %s: they are taken to be the model's, in its order", data)
    return MaskFormat(class_names_of(data, named or model_names, colours, (), ignore), ignore, colours)
