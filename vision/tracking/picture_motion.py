"""Two ways to tell how one grey picture moved into the next: corners that are followed, and whole pictures aligned.

Functions of arrays alone, in pixels of the (shrunk) grey pictures with (0, 0) at the *centre* of the first pixel, as
OpenCV counts. ``camera_motion.py`` keeps the state, judges the results and converts to the coordinates of a frame.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.types import FloatArray, ImageArray

Matrix = npt.NDArray[np.float64]
"""Affine map [2, 3]: position (x, y, 1) in the last picture -> position (x, y) in this one."""

# Corners (Shi & Tomasi 1994): 200 spread over the picture are far more than the four numbers of a similarity need.
MAX_CORNERS = 200
CORNER_QUALITY = 0.01
CORNER_DISTANCE = 6

# Pyramidal Lucas-Kanade (Bouguet 2000): a window of 11 over three halvings follows some 40 pixels; a larger one
# was no more accurate and took twice the time.
FLOW_WINDOW = (11, 11)
FLOW_LEVELS = 3
FLOW_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)

# A point that does not come back to where it started was not followed (Kalal 2010, forward-backward error).
MAX_RETURN_ERROR = 0.7

# RANSAC: points further than this from the common motion belong to something that moves by itself.
INLIER_DISTANCE = 1.5
RANSAC_CONFIDENCE = 0.995
MIN_INLIERS = 12
MIN_INLIER_SHARE = 0.35

# ECC (Evangelidis & Psarakis 2008): rounds, the change of correlation that ends them, and the width of the blur. The
# pictures are means of pixels already; with more blur what moves by itself pulls at more of its surroundings, and the
# error doubled. Shift and rotation alone: an affine map gave people who walk through the picture more to pull at, and
# a still camera seemed to move several times as much.
ECC_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
ECC_BLUR = 1
MIN_CORRELATION = 0.7
# The peak of phase correlation, in [0, 1], from which its shift is a better start than none.
MIN_PEAK = 0.05


class MotionFailure(StrEnum):
    """Why the motion of the camera could not be told; the camera then counts as still."""

    FEW_POINTS = "few points"
    """Too few corners outside the detections, or too few that could be followed."""
    NO_AGREEMENT = "no agreement"
    """The points do not move together: a cut, or most of the picture moves by itself."""
    NOT_ALIGNED = "not aligned"
    """ECC did not converge, or what it found does not look alike: a cut, a flat picture, or motion beyond its reach."""
    IMPLAUSIBLE = "implausible"
    """The motion found is larger than a camera makes from one frame to the next."""
    NEW_SIZE = "new size"
    """The picture has another size than the last one."""


def find_corners(grey: ImageArray, mask: ImageArray) -> FloatArray:
    """Return corners float32 [P, 2] of ``grey`` [h, w] where ``mask`` [h, w] is not 0, the strongest first."""
    corners: Any = cv2.goodFeaturesToTrack(grey, MAX_CORNERS, CORNER_QUALITY, CORNER_DISTANCE, mask=mask)
    # OpenCV gives None where it finds nothing.
    return np.zeros((0, 2), np.float32) if corners is None else np.asarray(corners, np.float32).reshape(-1, 2)


def flow_motion(
    last: ImageArray, corners: FloatArray, grey: ImageArray, mask: ImageArray
) -> tuple[Matrix | None, MotionFailure | None]:
    """Return the similarity that most ``corners`` [P, 2] of ``last`` follow into ``grey``, or why there is none.

    Points that end where ``mask`` is 0 have moved onto a detected object, or were part of it, and do not count.
    """
    if len(corners) < MIN_INLIERS:
        return None, MotionFailure.FEW_POINTS
    moved, found = _follow(last, grey, corners)
    returned, found_back = _follow(grey, last, moved)
    kept = found & found_back & (np.abs(returned - corners).max(axis=1) <= MAX_RETURN_ERROR)
    kept &= _is_open(mask, moved)
    if kept.sum() < MIN_INLIERS:
        return None, MotionFailure.FEW_POINTS
    # OpenCV seeds this RANSAC itself, from a constant: equal points give equal results.
    matrix, inliers = cv2.estimateAffinePartial2D(
        corners[kept],
        moved[kept],
        method=cv2.RANSAC,
        ransacReprojThreshold=INLIER_DISTANCE,
        confidence=RANSAC_CONFIDENCE,
    )
    if matrix is None or inliers.sum() < max(MIN_INLIERS, MIN_INLIER_SHARE * len(corners)):
        return None, MotionFailure.NO_AGREEMENT
    return np.asarray(matrix, np.float64), None


def ecc_motion(last: ImageArray, grey: ImageArray, mask: ImageArray) -> tuple[Matrix | None, MotionFailure | None]:
    """Return the shift and rotation that best correlate ``last`` with ``grey`` where ``mask`` is not 0, or why none do.

    The search starts at the shift that phase correlation finds, for ECC alone converges only near its start.
    """
    start = np.eye(2, 3, dtype=np.float32)
    start[:, 2] = _phase_shift(last, grey)
    try:
        correlation, matrix = cv2.findTransformECC(last, grey, start, cv2.MOTION_EUCLIDEAN, ECC_STOP, mask, ECC_BLUR)
    except cv2.error:
        # How OpenCV says that the rounds diverged, or that a picture is flat.
        return None, MotionFailure.NOT_ALIGNED
    # Written as a comparison that NaN fails.
    if not (correlation >= MIN_CORRELATION and np.isfinite(matrix).all()):
        return None, MotionFailure.NOT_ALIGNED
    return np.asarray(matrix, np.float64), None


def _follow(source: ImageArray, target: ImageArray, points: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return where ``points`` [P, 2] of ``source`` lie in ``target``, and which of them were found [P]."""
    moved: Any
    status: Any
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        source, target, points, np.zeros_like(points), winSize=FLOW_WINDOW, maxLevel=FLOW_LEVELS, criteria=FLOW_STOP
    )
    return np.asarray(moved, np.float32), np.asarray(status).reshape(-1) > 0


def _is_open(mask: ImageArray, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which points [P, 2] lie in the picture where ``mask`` is not 0."""
    height, width = mask.shape
    # Clipped before rounding: a lost point may lie too far out for an integer.
    columns, rows = np.rint(np.clip(points, -1, max(height, width))).astype(int).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    is_open = mask[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)] > 0
    return np.asarray(inside & is_open, np.bool_)


def _phase_shift(last: ImageArray, grey: ImageArray) -> tuple[float, float]:
    """Return the shift (x, y) of the whole picture by phase correlation, or (0, 0) where there is no clear peak."""
    height, width = grey.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(last.astype(np.float32), grey.astype(np.float32), window)
    return (float(shift[0]), float(shift[1])) if peak >= MIN_PEAK else (0.0, 0.0)
