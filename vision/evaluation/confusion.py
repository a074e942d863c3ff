"""The confusion matrix of a detector: what each object was taken for, background being one more class.

Overlap is judged before the class: a dog found as a cat is one confusion, not a miss and a false detection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vision.evaluation.matching import IOU, in_crowd
from vision.geometry.iou import pairwise_iou
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, IntArray


def confusion_matrix(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    num_classes: int,
    *,
    conf: float,
    iou: float = IOU,
) -> IntArray:
    """Return int64 [K + 1, K + 1]: rows are true classes, columns detected ones, the last of each is background.

    The row of background counts false detections, its column missed objects; their common cell is 0. Detections in a
    crowd region of their class that meet no object are left out.

    Args:
        images: pictures with their objects.
        found: detections by image id.
        num_classes: K; labels at or above it are left out.
        conf: lowest score counted.
        iou: smallest overlap of a pair.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image in images:
        detections = found.get(image.image_id, Detections.empty())
        detections = detections[(detections.scores >= conf) & (detections.labels < num_classes)]
        known = image.labels < num_classes
        boxes, labels = image.boxes[known], image.labels[known]
        pairs = _pair(pairwise_iou(detections.boxes, boxes), detections.labels[:, None] == labels[None], iou)
        for row, column in pairs:
            matrix[labels[column], detections.labels[row]] += 1
        paired_rows, paired_columns = [row for row, _ in pairs], [column for _, column in pairs]
        missed = np.delete(labels, paired_columns)
        matrix[:num_classes, num_classes] += np.bincount(missed, minlength=num_classes)
        alone = np.delete(np.arange(len(detections)), paired_rows)
        for row in alone.tolist():
            label = int(detections.labels[row])
            if not in_crowd(image, detections.boxes[row : row + 1], label, iou)[0]:
                matrix[num_classes, label] += 1
    return matrix


def _pair(overlap: np.ndarray, same_class: np.ndarray, iou: float) -> list[tuple[int, int]]:
    """Return (detection, object) pairs, each at most once: first those of one class, then by falling overlap."""
    rows, columns = np.nonzero(overlap >= iou)
    order = np.lexsort((-overlap[rows, columns], ~same_class[rows, columns]))
    pairs: list[tuple[int, int]] = []
    used_rows: set[int] = set()
    used_columns: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in used_rows and column not in used_columns:
            pairs.append((row, column))
            used_rows.add(row)
            used_columns.add(column)
    return pairs
