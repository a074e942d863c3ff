"""The motion that all objects share, found without pictures: a camera's shake, seen through the objects themselves.

A filter follows a steady pan, but not a jerk: for one frame every prediction is off by the same amount. Most tracks are
matched anyway; the lost ones, and those in a crowd, are not. So the sure matches are asked first, and where most of
them agree to be off by something, all tracks are moved by it before anything is decided.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes
from vision.tracking.assignment import is_unrivalled
from vision.tracking.cost import overlapping, paired_iou

MIN_IOU = 0.5
"""Overlap of a sure match."""
MIN_PAIRS, MIN_SHARE = 3, 0.5
"""Sure matches needed: with fewer, one object's own motion would pass for the camera's."""


def shared_shift(predicted: Boxes, corners: Boxes) -> npt.NDArray[np.float64] | None:
    """Return the median displacement [2] in pixels of detections from the tracks they surely belong to, or None.

    Args:
        predicted: float64 [C, 4] xyxy of the tracks that were seen in the last frame.
        corners: float64 [N, 4] xyxy of the detections.
    """
    if len(predicted) < MIN_PAIRS or len(corners) < MIN_PAIRS:
        return None
    i, j = overlapping(predicted, corners).nonzero()
    near = (paired_iou(predicted[i], corners[j]) > MIN_IOU).nonzero()[0]
    i, j = i[near], j[near]
    sure = is_unrivalled(i, j)
    if np.count_nonzero(sure) < max(MIN_PAIRS, MIN_SHARE * len(predicted)):
        return None
    off = corners[j[sure]] - predicted[i[sure]]
    # The middle of a box moves by half of what its two sides move. Sorted by hand: np.median takes as long as all else.
    shifts = np.sort((off[:, :2] + off[:, 2:]) / 2, axis=0)
    middle = len(shifts) // 2
    return np.asarray(shifts[middle] if len(shifts) % 2 else (shifts[middle - 1] + shifts[middle]) / 2)
