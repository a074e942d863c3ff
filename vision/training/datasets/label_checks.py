"""Whether labelled pictures can be learned from: something to tell apart, in training and in validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision.classification.config import Task
from vision.errors import InvalidInputError
from vision.training.check.start import find_shared

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """One readable picture with its classes (indices into the class names) or its value (NaN without)."""

    path: Path
    labels: tuple[int, ...]
    value: float


def warn_of_shared(train: Sequence[Path], val: Sequence[Path]) -> None:
    """Warn when validation has pictures of training, by path or byte for byte."""
    shared = find_shared(train, val)
    if shared:
        log.warning(
            "%d of %d validation pictures are training pictures too, first %s; the metrics will be too good: remove "
            "them from one side",
            len(shared),
            len(val),
            shared[0],
        )


def check_targets(
    task: Task,
    train: Sequence[LabelledPicture],
    val: Sequence[LabelledPicture],
    names: Sequence[str],
    source: Path,
) -> None:
    """Raise unless there is something to tell apart; warn of classes that training or validation lacks."""
    checks: dict[Task, Callable[[], None]] = {
        "multiclass": lambda: _check_classes(train, source),
        "multilabel": lambda: None,
        "regression": lambda: _check_values(train, source),
    }
    checks[task]()
    for side, pictures in (("training", train), ("validation", val)):
        seen = {label for picture in pictures for label in picture.labels}
        absent = [name for label, name in enumerate(names) if label not in seen]
        if absent:
            log.warning("%d of %d classes have no %s picture: %s", len(absent), len(names), side, ", ".join(absent[:8]))
    if task == "multilabel" and not any(picture.labels for picture in val):
        raise InvalidInputError(
            f"validation needs a picture with a label, those of {source} have none; add some or raise val_fraction",
            path=source,
        )


def _check_classes(train: Sequence[LabelledPicture], source: Path) -> None:
    seen = {label for picture in train for label in picture.labels}
    if len(seen) < 2:
        raise InvalidInputError(
            f"a multiclass task needs two classes or more, got {len(seen)} in {source}; add a class folder such as "
            "background, give the folder above the class folders, or choose task=multilabel",
            path=source,
        )


def _check_values(train: Sequence[LabelledPicture], source: Path) -> None:
    if len({picture.value for picture in train}) < 2:
        raise InvalidInputError(
            f"a regression needs different values, all {len(train)} in {source} are {train[0].value:g}; there is "
            "nothing to learn",
            path=source,
        )
