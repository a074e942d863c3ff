"""The data of a training run: pictures to learn from, background pictures, and pictures to validate on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vision.errors import InvalidInputError
from vision.training.datasets.detection import find_parts, read_detection_data
from vision.training.datasets.pictures import AnnotatedImage, readable_images
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)


class DetectionDataConfig(Protocol):
    """What a training configuration says of its data; see DetectorTrainingConfig."""

    @property
    def train_data(self) -> Path:
        """Annotated pictures to learn from."""
        ...

    @property
    def val_data(self) -> Path | None:
        """Annotated pictures to validate on; None: a part of train_data."""
        ...

    @property
    def val_fraction(self) -> float:
        """Share of train_data that is held out when it has no val list, in (0, 1)."""
        ...

    @property
    def negatives_data(self) -> Path | None:
        """Data whose pictures without the classes are background."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names to learn, in label order; empty for all."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Readable pictures of a run: ``train`` with background pictures last, ``val``, and the class names."""

    train: list[AnnotatedImage]
    val: list[AnnotatedImage]
    class_names: tuple[str, ...]


def load_training_data(config: DetectionDataConfig) -> TrainingData:
    """Return the readable pictures of a run.

    Raises:
        InvalidInputError: data that cannot be learned from; the message names the file and the remedy.
    """
    train, held_out, class_names = _read_train(config)
    val = _read_val(config, class_names) if held_out is None else held_out
    train += _background(config, class_names, known=train + val)
    return TrainingData(readable_images(train), readable_images(val), class_names)


def load_validation_images(config: DetectionDataConfig, class_names: Sequence[str]) -> list[AnnotatedImage]:
    """Return the readable validation pictures of a run, the same as ``load_training_data`` gives."""
    if config.val_data is None and "val" not in find_parts(config.train_data):
        return readable_images(_read_train(config)[1] or [])
    return readable_images(_read_val(config, class_names))


def _read_train(
    config: DetectionDataConfig,
) -> tuple[list[AnnotatedImage], list[AnnotatedImage] | None, tuple[str, ...]]:
    """Return the pictures to train on, those held out (None when validation has data of its own), the class names."""
    images, class_names = read_detection_data(config.train_data, config.classes, part="train")
    if config.val_data is not None or "val" in find_parts(config.train_data):
        return images, None, class_names
    train, val = hold_out(images, config.val_fraction, lambda image: image.path)
    log.info("no val_data: %d of %d pictures of %s are held out", len(val), len(images), config.train_data)
    return train, val, class_names


def _read_val(config: DetectionDataConfig, class_names: Sequence[str]) -> list[AnnotatedImage]:
    path = config.train_data if config.val_data is None else config.val_data
    images, _ = read_detection_data(path, class_names, part="val")
    if not images:
        raise InvalidInputError(f"{path} must have pictures to validate on, found none; give other val_data", path=path)
    return images


def _background(
    config: DetectionDataConfig, class_names: Sequence[str], known: Sequence[AnnotatedImage]
) -> list[AnnotatedImage]:
    """Return the pictures of negatives_data that show none of the classes, crowds included, and are not ``known``."""
    if config.negatives_data is None:
        return []
    extra, _ = read_detection_data(config.negatives_data, class_names, part="train")
    # By name: the ids of unrelated data sets coincide by chance.
    names = {image.path.name for image in known}
    return [image for image in extra if not len(image.labels) and not image.unmarked and image.path.name not in names]
