"""How well a map meets the borders of the true one: the border F-score of one class in one picture.

Csurka 2013, "What is a good evaluation measure for semantic segmentation?", section 3.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

# Of the picture's diagonal; 4.5 pixels at 480 x 360 (Csurka 2013, section 3).
BORDER_TOLERANCE = 0.0075


def border_tolerance(size_hw: tuple[int, int]) -> float:
    """Return the distance in pixels within which two borders of such a picture are one, at least 1."""
    return max(1.0, BORDER_TOLERANCE * float(np.hypot(*size_hw)))


def border_f_score(found: Mask, wanted: Mask, radius: float, unknown: Mask | None = None) -> float:
    """Return the harmonic mean of the shares of border pixels that lie within ``radius`` of the other's border.

    Where the truth is unknown nothing is counted, nor where a mask ends there: nobody said that it does. A border that
    a mask has there still excuses one that lies near it. 0 where nothing was found.

    Args:
        found: [H, W], pixels that were given the class.
        wanted: [H, W], pixels that are of the class.
        radius: in pixels, from centre to centre.
        unknown: [H, W], pixels that may be of any class; None for none.
    """
    known_found = found if unknown is None else found & ~unknown
    if not known_found.any():
        return 0.0
    precision = _share_near(border_of(known_found, unknown), border_of(wanted), radius)
    recall = _share_near(border_of(wanted, unknown), border_of(found), radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def border_of(mask: Mask, unknown: Mask | None = None) -> Mask:
    """Return the pixels [H, W] of a mask beside which, left, right, above or below, it ends.

    The picture's edge is no end, and neither are pixels that are ``unknown``.
    """
    solid = mask if unknown is None else mask | unknown
    cross = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    inner = cv2.erode(solid.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return np.asarray(mask & (inner == 0))


def _share_near(border: Mask, other: Mask, radius: float) -> float:
    """Return the share of the pixels of a border within ``radius`` of the other, 1 where there is nothing to meet."""
    if not border.any():
        return 1.0
    if not other.any():
        return 0.0
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float((distance[border] <= radius).mean())
