"""Scores of segmentation: IoU of each class, their mean, pixel accuracy, and how well borders are met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.types import Frame

if TYPE_CHECKING:
    from vision.segmentation.segmenter import Segmenter
    from vision.training.datasets.masks import MaskedPicture, MaskFormat

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

# Of the picture's diagonal; 4.5 pixels at 480 x 360 (Csurka 2013, section 3).
BORDER_TOLERANCE = 0.0075
PER_CLASS = "iou/"


class SegmentationMeter:
    """Collects maps beside their truth, one picture at a time; memory does not grow.

    Args:
        class_names: of the labels.
        ignore: value of the truth that is not counted.
        borders: also measure the border F-score, about 3 ms a class and picture.
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

    def add(self, labels: npt.NDArray[np.integer[Any]], truth: Labels) -> None:
        """Count one picture.

        Args:
            labels: [H, W] found classes.
            truth: [H, W] true classes, ``ignore`` where unknown.

        Raises:
            InvalidInputError: the shapes differ.
        """
        if labels.shape != truth.shape:
            raise InvalidInputError(
                f"a map and its truth must have one size, got {labels.shape} and {truth.shape}; compare maps at the "
                "picture's own size"
            )
        count = len(self.class_names)
        known = truth != self.ignore
        pairs = truth[known].astype(np.int64) * count + labels[known]
        self.confusion += np.bincount(pairs, minlength=count * count).reshape(count, count)
        self.pictures += 1
        if self.borders:
            self._add_borders(labels, truth)

    def _add_borders(self, labels: npt.NDArray[np.integer[Any]], truth: Labels) -> None:
        radius = max(1, round(BORDER_TOLERANCE * float(np.hypot(*truth.shape))))
        known = truth != self.ignore
        for index in range(len(self.class_names)):
            wanted = truth == index
            if wanted.any():
                found = (labels == index) & known
                self._border_scores[index] += border_f_score(found, wanted, radius)
                self._border_pictures[index] += 1

    def scores(self) -> dict[str, float]:
        """Return ``mIoU`` (over the classes that occur), ``accuracy`` of pixels, ``class_accuracy`` (mean recall),
        ``border_f1``, ``iou/NAME`` of each class (NaN where it neither occurs nor was found), and ``pictures``."""
        hits = np.diag(self.confusion).astype(np.float64)
        true, found = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        union = true + found - hits
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = hits / union
            recall = hits / true
            borders = self._border_scores / self._border_pictures
        occurs = true > 0
        total = self.confusion.sum()
        metrics = {
            "mIoU": float(iou[occurs].mean()) if occurs.any() else float("nan"),
            "accuracy": float(hits.sum() / total) if total else float("nan"),
            "class_accuracy": float(recall[occurs].mean()) if occurs.any() else float("nan"),
        }
        if self.borders:
            metrics["border_f1"] = float(borders[occurs].mean()) if occurs.any() else float("nan")
        return {
            **metrics,
            **{f"{PER_CLASS}{name}": float(value) for name, value in zip(self.class_names, iou, strict=True)},
            "pictures": float(self.pictures),
        }


def border_f_score(found: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_], radius: int) -> float:
    """Return the harmonic mean of the shares of border pixels that lie within ``radius`` of the other's border.

    Csurka 2013, "What is a good evaluation measure for semantic segmentation?". 0 where nothing was found.
    """
    if not found.any():
        return 0.0
    border_found, border_wanted = border_of(found), border_of(wanted)
    if not border_found.any() and not border_wanted.any():
        return 1.0
    disc = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
    precision = _share_near(border_found, border_wanted, disc)
    recall = _share_near(border_wanted, border_found, disc)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def border_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return 1 at the pixels of a mask that touch what is outside of it, not the picture's edge; uint8 [H, W]."""
    inside = mask.astype(np.uint8)
    cross = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    eroded = cv2.erode(inside, cross, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.asarray(inside - eroded, np.uint8)


def _share_near(border: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], disc: npt.NDArray[np.uint8]) -> float:
    near = cv2.dilate(other, disc)
    count = int(border.sum())
    return float((border & near).sum() / count) if count else 0.0


def measure_segmenter(
    segmenter: Segmenter, pairs: Sequence[MaskedPicture], form: MaskFormat, *, borders: bool = True
) -> SegmentationMeter:
    """Return the meter after a segmenter's maps of all pictures, each compared at its own size."""
    from vision.training.datasets.masks import read_mask
    from vision.training.datasets.pictures import load_rgb

    meter = SegmentationMeter(form.class_names, ignore=form.ignore, borders=borders)
    for pair in pairs:
        frame = Frame(load_rgb(pair.image), 0, None, str(pair.image))
        meter.add(segmenter.segment([frame])[0].labels, read_mask(pair.mask, form))
    return meter
