"""Overlap of boxes, in numpy: used by the tracker's second stage, by evaluation and by tests as the reference for
NMS."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes, box_area

FloatMatrix = npt.NDArray[np.floating[Any]]


def pairwise_intersection(boxes_a: Boxes, boxes_b: Boxes) -> FloatMatrix:
    """Return the [N, M] matrix of common areas of xyxy boxes [N, 4] and [M, 4], in square pixels."""
    left_top = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    right_bottom = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    size = np.maximum(right_bottom - left_top, 0)
    return np.asarray(size[..., 0] * size[..., 1])


def pairwise_iou(boxes_a: Boxes, boxes_b: Boxes) -> FloatMatrix:
    """Return the [N, M] IoU matrix of xyxy boxes [N, 4] and [M, 4]; 0 where either area is 0.

    >>> pairwise_iou(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 5, 9]])).round(3)
    array([[1.   , 0.333, 0.   ]])
    """
    # float64: with float32 the union of boxes far from the origin loses enough digits to exceed 1.
    boxes_a, boxes_b = boxes_a.astype(np.float64, copy=False), boxes_b.astype(np.float64, copy=False)
    intersection = pairwise_intersection(boxes_a, boxes_b)
    union = box_area(boxes_a)[:, None] + box_area(boxes_b)[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)
