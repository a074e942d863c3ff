"""The data of a training run: pictures to learn from, background pictures, and pictures to validate on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from vision.training.check.start import check_before_training, warn_of_shared_pictures
from vision.training.config import BoxTrainingConfig
from vision.training.datasets.detection import choose_classes, find_parts, read_annotations, read_detection_data
from vision.training.datasets.pictures import AnnotatedImage, decodable_images, read_headers, readable_images
from vision.training.datasets.split import hold_out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Readable pictures of a run: ``train`` with background pictures last, ``val``, and the class names."""

    train: list[AnnotatedImage]
    val: list[AnnotatedImage]
    class_names: tuple[str, ...]


def load_training_data(config: BoxTrainingConfig) -> TrainingData:
    """Return the readable pictures of a run after the checks that need no decoding (vision/training/check/start.py).

    Raises:
        InvalidInputError: data that cannot be learned from; the message names the file and the remedy.
    """
    annotations = read_annotations(config.train_data, "train")
    # A misspelt class is told before thousands of pictures are opened.
    images, class_names = choose_classes(annotations, config.classes)
    headers = read_headers(picture.path for picture in annotations.pictures)
    check_before_training(annotations, headers, config.classes)
    if is_held_out(config):
        train, val = hold_out(images, config.val_fraction, lambda image: image.path)
        log.info("no val_data: %d of %d pictures of %s are held out", len(val), len(images), config.train_data)
        readable_val = decodable_images(readable_images(val, headers))
    else:
        train = images
        val, readable_val = _read_val(config, class_names, check=True)
        warn_of_shared_pictures((image.path for image in train), (image.path for image in val))
    background = _background(config, class_names, known=train + val)
    headers |= read_headers(image.path for image in background)
    return TrainingData(readable_images(train + background, headers), readable_val, class_names)


def load_validation_images(config: BoxTrainingConfig, class_names: Sequence[str]) -> list[AnnotatedImage]:
    """Return the readable validation pictures of a run, the same as ``load_training_data`` gives."""
    if not is_held_out(config):
        return _read_val(config, class_names)[1]
    train, _ = read_detection_data(config.train_data, class_names, part="train")
    return decodable_images(readable_images(hold_out(train, config.val_fraction, lambda image: image.path)[1]))


def is_held_out(config: BoxTrainingConfig) -> bool:
    """Return whether validation pictures have to be taken from the training data."""
    return config.val_data is None and "val" not in find_parts(config.train_data)


def _read_val(
    config: BoxTrainingConfig, class_names: Sequence[str], *, check: bool = False
) -> tuple[list[AnnotatedImage], list[AnnotatedImage]]:
    """Return all validation pictures and the readable ones, with faults logged or raised if ``check``."""
    path = config.train_data if config.val_data is None else config.val_data
    annotations = read_annotations(path, "val")
    headers = read_headers(picture.path for picture in annotations.pictures)
    if check:
        check_before_training(annotations, headers)
    images, _ = choose_classes(annotations, class_names)
    return images, decodable_images(readable_images(images, headers))


def _background(
    config: BoxTrainingConfig, class_names: Sequence[str], known: Sequence[AnnotatedImage]
) -> list[AnnotatedImage]:
    """Return the pictures of negatives_data that show none of the classes, crowds included, and are not ``known``."""
    if config.negatives_data is None:
        return []
    extra, _ = read_detection_data(config.negatives_data, class_names, part="train")
    # By name: the ids of unrelated data sets coincide by chance.
    names = {image.path.name for image in known}
    return [image for image in extra if not len(image.labels) and not image.unmarked and image.path.name not in names]
