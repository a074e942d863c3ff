"""What a match costs: which pairs of track and detection are possible at all, and how well each fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes, box_area
from vision.tracking.assignment import Costs, Indices, is_unrivalled
from vision.tracking.gallery import Gallery
from vision.types import FloatArray, IntArray

BoolMatrix = npt.NDArray[np.bool_]
SMALLEST = np.finfo(np.float64).tiny


def labels_agree(track_labels: IntArray, labels: IntArray) -> BoolMatrix | None:
    """Return the [C, N] matrix of pairs with equal labels, or None where all labels are the same one."""
    if len(track_labels) and len(labels) and (track_labels == labels[0]).all() and (labels == labels[0]).all():
        return None
    return np.equal(track_labels[:, None], labels[None, :])


def overlapping(boxes_a: Boxes, boxes_b: Boxes) -> BoolMatrix:
    """Return the [C, N] matrix of boxes that share some area; comparisons alone, so that no pair costs a division.

    >>> overlapping(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [2, 0, 3, 2]]))
    array([[ True, False]])
    """
    # The columns are copied: numpy compares contiguous rows several times faster than strided ones.
    a, b = np.ascontiguousarray(boxes_a.T)[:, :, None], np.ascontiguousarray(boxes_b.T)
    shared = a[0] < b[2]
    shared &= b[0] < a[2]
    shared &= a[1] < b[3]
    shared &= b[1] < a[3]
    return np.asarray(shared)


def paired_iou(boxes_a: Boxes, boxes_b: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the IoU [P] of box i of ``boxes_a`` [P, 4] with box i of ``boxes_b`` [P, 4]; 0 where either area is 0.

    >>> paired_iou(np.array([[0.0, 0, 2, 2], [0, 0, 1, 1]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3)
    array([0.333, 0.   ])
    """
    boxes_a, boxes_b = boxes_a.astype(np.float64, copy=False), boxes_b.astype(np.float64, copy=False)
    size = np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    size -= np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    np.maximum(size, 0, out=size)
    intersection = size[:, 0] * size[:, 1]
    union = box_area(boxes_a)
    union += box_area(boxes_b)
    union -= intersection
    # Two boxes without area share nothing: any divisor will do.
    return np.asarray(intersection / np.maximum(union, SMALLEST))


def height_iou(boxes_a: Boxes, boxes_b: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the overlap over the union [P] of the vertical extents of paired boxes (Yang 2024, section 3.3).

    >>> height_iou(np.array([[0.0, 0, 1, 4]]), np.array([[5.0, 2, 6, 6]])).round(3)
    array([0.333])
    """
    shared = np.minimum(boxes_a[:, 3], boxes_b[:, 3]) - np.maximum(boxes_a[:, 1], boxes_b[:, 1])
    whole = np.maximum(boxes_a[:, 3], boxes_b[:, 3]) - np.minimum(boxes_a[:, 1], boxes_b[:, 1])
    return np.asarray(np.maximum(shared, 0) / whole)


def appearance_cost(gallery: Gallery, rows: Indices, columns: Indices, embeddings: FloatArray, limit: float) -> Costs:
    """Return the cosine distance [P] of detections ``columns`` [P] to the galleries of tracks ``rows`` [P], sorted.

    The distance is the smallest over the gallery, with one liberty that cannot change an assignment: a pair without a
    rival only has to be within ``limit``, so where the newest embedding already is, its distance stands for the
    minimum. That spares most pairs the other embeddings of the gallery. Infinite where a gallery is empty.
    """
    costs = np.full(len(rows), np.inf, np.float32)
    has_memory = gallery.written[rows] > 0
    quick = (is_unrivalled(rows, columns) & has_memory).nonzero()[0]
    if len(quick):
        costs[quick] = gallery.latest_distance(rows[quick], embeddings[columns[quick]])
        has_memory[quick[costs[quick] <= limit]] = False
    rest = has_memory.nonzero()[0]
    if len(rest):
        costs[rest] = gallery.cosine_distance(rows[rest], embeddings[columns[rest]])
    return costs
