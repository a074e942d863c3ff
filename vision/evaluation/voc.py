"""AP as Pascal VOC defined it: over 11 recall points (until 2009) and as the area below the curve (since 2010).

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2; the area in the development kit
of 2010. One overlap, 0.5; objects marked difficult are neither asked for nor counted against a detector. Boxes here
are continuous, without the kit's + 1 on width and height, which changes overlaps of small boxes by a few percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vision.evaluation.curves import precision_recall
from vision.evaluation.matching import IOU, ClassMatches, ScoreArray, match_detections
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections

NO_OBJECTS = -1.0


@dataclass(frozen=True, slots=True)
class VocScores:
    """VOC's AP in [0, 1] of each class, -1 for a class without objects, and the means over the others.

    Attributes:
        ap11, area: means; -1 when no class has objects.
        ap11_by_class, area_by_class: one number a class, in label order.
    """

    ap11: float
    area: float
    ap11_by_class: tuple[float, ...]
    area_by_class: tuple[float, ...]


def voc_scores(
    images: Sequence[AnnotatedImage], found: Mapping[int, Detections], num_classes: int, *, iou: float = IOU
) -> VocScores:
    """Return VOC's AP of detections by image id."""
    matches = match_detections(images, found, num_classes, iou=iou, rule="voc")
    ap11 = tuple(_score(item, average_precision_11) for item in matches)
    area = tuple(_score(item, average_precision_area) for item in matches)
    return VocScores(_mean(ap11), _mean(area), ap11, area)


def average_precision_11(recall: ScoreArray, precision: ScoreArray) -> float:
    """Return the mean over recall 0, 0.1 ... 1 of the largest precision at that recall or beyond.

    Args:
        recall: [D] after each detection, not falling. precision: [D].

    Six of the eleven points lie at or below a recall of 0.5, where precision is 1:

    >>> round(average_precision_11(np.array([0.5, 0.5]), np.array([1.0, 0.5])), 3)
    0.545
    """
    # A recall of 0.3 computed as 3 / 10 must reach the point 0.3, which linspace makes 0.30000000000000004.
    points = np.linspace(0, 1, 11) - 1e-9
    best = [precision[recall >= point].max(initial=0.0) for point in points]
    return float(np.mean(best))


def average_precision_area(recall: ScoreArray, precision: ScoreArray) -> float:
    """Return the area below the precision-recall curve after precision was made to fall.

    Args:
        recall: [D] after each detection, not falling. precision: [D].

    >>> round(average_precision_area(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])), 3)
    0.833
    """
    if not len(recall):
        return 0.0
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * falling))


def _score(matches: ClassMatches, average: Callable[[ScoreArray, ScoreArray], float]) -> float:
    if not matches.object_count:
        return NO_OBJECTS
    precision, recall = precision_recall(matches)
    return average(recall, precision)


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if value != NO_OBJECTS]
    return float(np.mean(present)) if present else NO_OBJECTS
