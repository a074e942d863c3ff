"""Box format conversions and clipping; every function maps arrays [..., 4] to new arrays of the same shape.

Formats: xyxy (corners, the only format that value types hold), xywh (corner and size, COCO and MOTChallenge files),
cxcywh (centre and size) and cxcyah (centre, aspect ratio w / h, height: the state of the Kalman filter, Wojke 2017
section 2.1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating[Any]]


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Return (x1, y1, width, height) of corner boxes."""
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def xywh_to_xyxy(boxes_xywh: Boxes) -> Boxes:
    """Return corner boxes of (x1, y1, width, height)."""
    return np.concatenate([boxes_xywh[..., :2], boxes_xywh[..., :2] + boxes_xywh[..., 2:]], axis=-1)


def xyxy_to_cxcywh(boxes: Boxes) -> Boxes:
    """Return (centre x, centre y, width, height) of corner boxes."""
    return np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


def cxcywh_to_xyxy(boxes_cxcywh: Boxes) -> Boxes:
    """Return corner boxes of (centre x, centre y, width, height)."""
    half = boxes_cxcywh[..., 2:] / 2
    return np.concatenate([boxes_cxcywh[..., :2] - half, boxes_cxcywh[..., :2] + half], axis=-1)


def xyxy_to_cxcyah(boxes: Boxes) -> Boxes:
    """Return (centre x, centre y, aspect w / h, height); the height of a box must be > 0."""
    cxcywh = xyxy_to_cxcywh(boxes)
    cxcywh[..., 2] /= cxcywh[..., 3]
    return cxcywh


def cxcyah_to_xyxy(boxes_cxcyah: Boxes) -> Boxes:
    """Return corner boxes of (centre x, centre y, aspect w / h, height)."""
    cxcywh = boxes_cxcyah.copy()
    cxcywh[..., 2] *= cxcywh[..., 3]
    return cxcywh_to_xyxy(cxcywh)


def clip_boxes(boxes: Boxes, size_hw: tuple[int, int]) -> Boxes:
    """Return xyxy boxes cut to the frame [0, W] x [0, H]; a box outside becomes one of zero area on its border."""
    height, width = size_hw
    return np.clip(boxes, 0, np.asarray([width, height, width, height], boxes.dtype))


def box_area(boxes: Boxes) -> npt.NDArray[np.floating[Any]]:
    """Return the area [...] of xyxy boxes in square pixels."""
    size = boxes[..., 2:] - boxes[..., :2]
    return np.asarray(size[..., 0] * size[..., 1])
