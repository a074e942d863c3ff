"""The pictures that a classifier learns from and is measured on: read, checked, split, with targets by number."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vision.classification.config import Task
from vision.errors import InvalidInputError, closest_hint
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.label_checks import LabelledPicture, check_targets, warn_of_shared
from vision.training.datasets.label_files import find_parts, read_labels
from vision.training.datasets.label_table import LabelFile, LabelRow
from vision.training.datasets.pictures import load_rgb
from vision.training.datasets.split import hold_out
from vision.types import FloatArray

log = logging.getLogger(__name__)

# Bins of a regression's values that are each split, so that both sides see small and large ones; fewer when few.
VALUE_BINS = 5
DECODE_THREADS = 4


@dataclass(frozen=True, slots=True)
class LabelledData:
    """The data of one run: pictures to train on, pictures for validation, and the class names in label order."""

    train: tuple[LabelledPicture, ...]
    val: tuple[LabelledPicture, ...]
    class_names: tuple[str, ...]


def load_labelled_data(config: ClassifierTrainingConfig) -> LabelledData:
    """Return the readable pictures of a run; what cannot be read is reported by name and left out.

    Raises:
        InvalidInputError: data that cannot be learned from; the message names the file and the remedy.
    """
    train_path, val_path = find_parts(config.data)
    val_path = val_path if config.val_data is None else find_parts(config.val_data)[1] or config.val_data
    said = read_labels(train_path, config.task)
    names = _choose_classes(said, config.classes, train_path)
    train_rows = _with_known_names(said, names, "leave out" if config.classes else "refuse")
    train = _readable(_pictures(train_rows, names), train_path)
    if val_path is None:
        train, val = split_stratified(train, config.val_fraction)
        log.info("no val_data: %d of %d pictures of %s are held out", len(val), len(train) + len(val), train_path)
    else:
        other = read_labels(val_path, config.task)
        unknown: Literal["leave out", "refuse"] = "leave out" if config.classes else "refuse"
        val = _readable(_pictures(_with_known_names(other, names, unknown, val_path), names), val_path)
        warn_of_shared([picture.path for picture in train], [picture.path for picture in val])
    check_targets(config.task, train, val, names, train_path)
    return LabelledData(tuple(train), tuple(val), names)


def load_measured_pictures(
    data: Path, task: Task, class_names: Sequence[str], *, holdout: float = 0.0
) -> list[LabelledPicture]:
    """Return the readable pictures to measure a model on: the validation part of ``data``, or else all of it.

    Args:
        data: as for training. task, class_names: the model's.
        holdout: with a share in (0, 1), the pictures that a training with this ``val_fraction`` holds out of ``data``.
    """
    train_path, val_path = find_parts(data)
    path = train_path if holdout or val_path is None else val_path
    said = read_labels(path, task)
    pictures = _readable(_pictures(_with_known_names(said, class_names, "refuse", path), class_names), path)
    return split_stratified(pictures, holdout)[1] if holdout else pictures


def split_stratified(
    pictures: Sequence[LabelledPicture], fraction: float
) -> tuple[list[LabelledPicture], list[LabelledPicture]]:
    """Return the pictures to train on and those held out: about ``fraction`` of each class, by a hash of file names.

    A picture with several classes counts for its rarest one, values for one of five bins. Where classes exclude each
    other, one with a single picture stays in training.
    """
    groups: dict[object, list[LabelledPicture]] = {}
    for picture, key in zip(pictures, _strata(pictures), strict=True):
        groups.setdefault(key, []).append(picture)
    kept: list[LabelledPicture] = []
    held: list[LabelledPicture] = []
    single = [group[0] for group in groups.values() if len(group) == 1]
    exclusive = all(len(picture.labels) == 1 for picture in pictures)
    if exclusive or len(single) == 1:
        kept += single
        single = []
    for group in [*(group for group in groups.values() if len(group) > 1), *([single] if single else [])]:
        group_kept, group_held = hold_out(group, fraction, lambda picture: picture.path)
        kept += group_kept
        held += group_held
    if not held:
        raise InvalidInputError(
            f"holding pictures out for validation needs a class with two pictures or more, got {len(pictures)} "
            "pictures in all; add pictures or give val_data"
        )
    return kept, held


def target_array(pictures: Sequence[LabelledPicture], task: Task, class_count: int) -> FloatArray:
    """Return targets float32: one-hot or multi-hot [N, K] for classes, values [N, 1] for a regression."""
    if task == "regression":
        return np.asarray([[picture.value] for picture in pictures], np.float32)
    targets = np.zeros((len(pictures), class_count), np.float32)
    for row, picture in enumerate(pictures):
        targets[row, list(picture.labels)] = 1
    return targets


def _strata(pictures: Sequence[LabelledPicture]) -> list[object]:
    values = np.asarray([picture.value for picture in pictures], np.float64)
    if len(values) and np.isfinite(values).all():
        bins = min(VALUE_BINS, max(1, len(values) // VALUE_BINS))
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        return [int(number) for number in np.digitize(values, edges)]
    counts = Counter(label for picture in pictures for label in picture.labels)
    return [min(picture.labels, key=lambda label: (counts[label], label), default=None) for picture in pictures]


def _choose_classes(said: LabelFile, wanted: Sequence[str], path: Path) -> tuple[str, ...]:
    """Return the class names in label order after checking that the wanted ones are there."""
    for name in wanted:
        if name not in said.class_names:
            raise InvalidInputError(
                f"{path} must have the classes {', '.join(wanted)}, it lacks {name!r}"
                f"{closest_hint(name, said.class_names)}; add pictures of it, or leave it out of classes",
                path=path,
            )
    return tuple(wanted) or said.class_names


def _with_known_names(
    said: LabelFile, names: Sequence[str], unknown: Literal["leave out", "refuse"], path: Path | None = None
) -> list[LabelRow]:
    """Return the rows with known class names only; a row that had others alone is left out, or is an error."""
    rows = []
    for row in said.rows:
        strange = [name for name in row.names if name not in names]
        if strange and unknown == "refuse":
            raise InvalidInputError(
                f"{row.place} must have classes of the {len(names)} learned ones ({', '.join(names[:8])}), got "
                f"{strange[0]!r}{closest_hint(strange[0], names)}; rename it, remove it, or train with it",
                path=path,
            )
        if len(strange) < len(row.names) or not row.names:
            kept = tuple(name for name in row.names if name in names)
            rows.append(LabelRow(row.path, row.place, kept, row.value))
    return rows


def _pictures(rows: Iterable[LabelRow], names: Sequence[str]) -> list[tuple[LabelledPicture, str]]:
    label_of: Mapping[str, int] = {name: label for label, name in enumerate(names)}
    return [
        (LabelledPicture(row.path, tuple(label_of[name] for name in row.names), row.value), row.place) for row in rows
    ]


def _readable(pictures: Sequence[tuple[LabelledPicture, str]], source: Path) -> list[LabelledPicture]:
    """Return the pictures that decode; each other one is reported once. It costs one pass, and no run dies halfway."""
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        errors = list(pool.map(_decode_error, (picture.path for picture, _ in pictures)))
    kept = []
    for (picture, place), error in zip(pictures, errors, strict=True):
        if error is None:
            kept.append(picture)
        else:
            log.warning("skipped a picture of %s: %s", place, error)
    if not kept:
        raise InvalidInputError(
            f"none of the {len(pictures)} pictures of {source} can be read; put them where it says",
            path=source,
        )
    return kept


def _decode_error(path: Path) -> str | None:
    try:
        load_rgb(path)
    except InvalidInputError as exc:
        return str(exc)
    return None
