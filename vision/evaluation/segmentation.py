"""Scores of segmentation: IoU of each class, their mean, pixel accuracy, and how well borders are met."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.evaluation.borders import border_f_score, border_tolerance
from vision.segmentation.config import OTHER
from vision.types import Frame

if TYPE_CHECKING:
    from vision.segmentation.segmenter import Segmenter
    from vision.training.datasets.mask_layouts import MaskedPicture
    from vision.training.datasets.masks import MaskFormat

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.integer[Any]]
Counts = npt.NDArray[np.int64]

PER_CLASS = "iou/"
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How one class was met; NaN where there is nothing to divide by.

    Attributes:
        name: of the class.
        pixels: that are of the class. found_pixels: that were given it; both without unknown ones.
        iou: pixels that are both / that are either.
        recall: share of ``pixels`` that were found. precision: share of ``found_pixels`` that are right.
        border_f1: mean over the pictures that show the class; NaN unless borders were measured.
    """

    name: str
    pixels: int
    found_pixels: int
    iou: float
    recall: float
    precision: float
    border_f1: float


class SegmentationMeter:
    """Collects maps beside their truth, one picture at a time; memory does not grow.

    Args:
        class_names: of the labels.
        ignore: value of the truth that is not counted.
        borders: also measure the border F-score, about 3 ms a class and picture.

    Attributes:
        confusion: int64 [K, K] pixels; rows are true classes, columns found ones.
        pictures: how many were added.
    """

    def __init__(self, class_names: Sequence[str], *, ignore: int = 255, borders: bool = True) -> None:
        self.class_names = tuple(class_names)
        self.ignore = ignore
        self.borders = borders
        count = len(self.class_names)
        self.confusion: Counts = np.zeros((count, count), np.int64)
        self._border_scores = np.zeros(count)
        self._border_pictures = np.zeros(count, np.int64)
        self.pictures = 0

    def add(self, labels: Labels, truth: Labels) -> None:
        """Count one picture.

        Args:
            labels: [H, W] found classes.
            truth: [H, W] true classes, ``ignore`` where unknown.

        Raises:
            InvalidInputError: the shapes differ, or a number is no class.
        """
        if labels.shape != truth.shape:
            raise InvalidInputError(
                f"a map and its truth must have one size, got {labels.shape} and {truth.shape}; compare maps at the "
                "picture's own size"
            )
        count = len(self.class_names)
        known = truth != self.ignore
        rows, columns = truth[known].astype(np.int64), labels[known].astype(np.int64)
        for name, values in (("true", rows), ("found", columns)):
            if values.size and not 0 <= int(values.min()) <= int(values.max()) < count:
                raise InvalidInputError(
                    f"{name} labels must be 0 to {count - 1}, got {int(values.min())} to {int(values.max())}; give a "
                    "name for each class"
                )
        self.confusion += np.bincount(rows * count + columns, minlength=count * count).reshape(count, count)
        self.pictures += 1
        if self.borders:
            self._add_borders(labels, truth)

    def _add_borders(self, labels: Labels, truth: Labels) -> None:
        radius = border_tolerance((truth.shape[0], truth.shape[1]))
        unknown = truth == self.ignore
        for index in range(len(self.class_names)):
            wanted = truth == index
            if wanted.any():
                self._border_scores[index] += border_f_score(labels == index, wanted, radius, unknown)
                self._border_pictures[index] += 1

    def classes(self) -> list[ClassScores]:
        """Return the scores of each class, in the order of the labels."""
        with np.errstate(invalid="ignore"):
            borders = self._border_scores / self._border_pictures
        return class_scores(self.class_names, self.confusion, borders)

    def scores(self) -> dict[str, float]:
        """Return ``mIoU`` (over the classes that occur), ``accuracy`` of pixels, ``class_accuracy`` (mean recall),
        ``border_f1``, ``iou/NAME`` of each class (NaN where it neither occurs nor was found), and ``pictures``."""
        classes = self.classes()
        metrics = total_scores(classes, self.confusion)
        if not self.borders:
            del metrics["border_f1"]
        return {
            **metrics,
            **{f"{PER_CLASS}{item.name}": item.iou for item in classes},
            "pictures": float(self.pictures),
        }


def class_scores(class_names: Sequence[str], confusion: Counts, border_f1: npt.NDArray[Any]) -> list[ClassScores]:
    """Return the scores of each class from the pixels int64 [K, K] (rows are true classes) and border scores [K]."""
    hits = np.diag(confusion).astype(np.float64)
    true, found = confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = (hits / (true + found - hits), hits / true, hits / found, border_f1)
    return [
        ClassScores(name, int(true[at]), int(found[at]), *(float(column[at]) for column in columns))
        for at, name in enumerate(class_names)
    ]


def total_scores(classes: Sequence[ClassScores], confusion: Counts) -> dict[str, float]:
    """Return ``mIoU``, ``class_accuracy`` and ``border_f1``, means over the classes that occur, and ``accuracy``, the
    share of right pixels; NaN where nothing is known."""
    occurring = [item for item in classes if item.pixels]
    total = int(confusion.sum())
    return {
        "mIoU": _mean([item.iou for item in occurring]),
        "accuracy": float(np.trace(confusion) / total) if total else float("nan"),
        "class_accuracy": _mean([item.recall for item in occurring]),
        "border_f1": _mean([item.border_f1 for item in occurring]),
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def measure_segmenter(
    segmenter: Segmenter,
    pairs: Sequence[MaskedPicture],
    form: MaskFormat,
    *,
    borders: bool = True,
    advance: Callable[[], None] | None = None,
) -> SegmentationMeter:
    """Return the meter after a segmenter's maps of all pictures, each compared at its own size.

    The meter's classes are the segmenter's; those of the masks are matched with them by name.

    Args:
        segmenter: what is measured.
        pairs: pictures with their masks.
        form: how the masks are to be read.
        borders: also measure the border F-score.
        advance: called after each picture.

    Raises:
        InvalidInputError: masks and segmenter share no class, or a picture or a mask cannot be used.
    """
    meter = SegmentationMeter(segmenter.class_names, ignore=NO_LABEL, borders=borders)
    for labels, truth in maps_with_truth(segmenter, pairs, form):
        meter.add(labels, truth)
        if advance is not None:
            advance()
    return meter


def maps_with_truth(
    segmenter: Segmenter, pairs: Sequence[MaskedPicture], form: MaskFormat
) -> Iterator[tuple[Labels, npt.NDArray[np.int16]]]:
    """Yield the found classes [H, W] of each picture and the true ones int16 [H, W] in the segmenter's numbers, -1
    where nothing is known.

    Raises:
        InvalidInputError: masks and segmenter share no class, or a picture or a mask cannot be used.
    """
    from vision.training.datasets.masks import read_mask
    from vision.training.datasets.pictures import load_rgb

    label_of = labels_by_name(form.class_names, segmenter.class_names, ignore=form.ignore)
    for pair in pairs:
        frame = Frame(load_rgb(pair.image), 0, None, str(pair.image))
        yield segmenter.segment([frame])[0].labels, label_of[read_mask(pair.mask, form)]


def labels_by_name(
    mask_names: Sequence[str], class_names: Sequence[str], *, ignore: int = 255
) -> npt.NDArray[np.int16]:
    """Return the segmenter's label of each mask value, int16 [256]: that of the same name, -1 for none.

    What only the masks know is "other" for a segmenter that has such a class, and is not counted with one that has not,
    which is logged.

    Args:
        mask_names: of the mask values 0, 1, 2, ...
        class_names: of the segmenter's labels.
        ignore: mask value that is no class, whatever its name.

    Raises:
        InvalidInputError: no name is in both.
    """
    shared = [name for name in mask_names if name in class_names]
    if not shared:
        raise InvalidInputError(
            f"masks and model must have classes in common, the masks have {', '.join(mask_names)}, the model "
            f"{', '.join(class_names)}; name the masks' classes as the model does (--mask-classes)",
            expected=", ".join(class_names),
            actual=", ".join(mask_names),
        )
    rest = class_names.index(OTHER) if OTHER in class_names else NO_LABEL
    foreign = [name for name in mask_names if name not in class_names]
    if foreign and rest == NO_LABEL:
        log.warning("pixels of %s are not counted: the model has no such class", ", ".join(foreign))
    table = np.full(256, NO_LABEL, np.int16)
    for value, name in enumerate(mask_names):
        table[value] = class_names.index(name) if name in shared else rest
    if ignore < len(table):
        table[ignore] = NO_LABEL
    return table
