"""COCO run lengths of many masks to COCO's text and to boxes, without a step of Python for each run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Groups of five bits that the longest difference of two runs may need: no picture has 2**34 pixels.
_GROUPS = 7
_SHIFTS = 5 * np.arange(_GROUPS)
# From these numbers on a further group is needed; the highest bit of the last one is the sign.
_LIMITS = 1 << (_SHIFTS[:-1] + 4)


def compress_runs(counts: npt.NDArray[np.int32]) -> str:
    """Return what ``vision.geometry.rle.compress_counts`` returns of the same run lengths.

    >>> compress_runs(np.array([6, 1, 40, 4, 5, 4], np.int32))
    '61X13mN0'
    """
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    size = np.where(numbers < 0, -1 - numbers, numbers)
    groups = 1 + (size[:, None] >= _LIMITS).sum(axis=1)
    places = np.arange(_GROUPS)
    signs = (numbers[:, None] >> _SHIFTS) & 0x1F
    signs |= np.where(places < groups[:, None] - 1, 0x20, 0)
    text: bytes = (signs[places < groups[:, None]] + 48).astype(np.uint8).tobytes()
    return text.decode("ascii")


def bound_runs(counts: npt.NDArray[np.int32], height: int) -> list[int]:
    """Return [x, y, width, height] of the pixels that a mask covers; zeros for a mask that covers none.

    >>> bound_runs(np.array([5, 2, 5], np.int32), 4)
    [1, 1, 1, 2]
    """
    edges = np.cumsum(counts, dtype=np.int64)
    stops = edges[1::2]
    starts = edges[0::2][: len(stops)]
    covered = stops > starts
    if not covered.any():
        return [0, 0, 0, 0]
    first, last = starts[covered], stops[covered] - 1
    left, right = int(first[0]) // height, int(last[-1]) // height
    # A run over the end of a column has the lowest row of one and the highest of the next.
    if (first // height != last // height).any():
        return [left, 0, right - left + 1, height]
    top, bottom = int((first % height).min()), int((last % height).max())
    return [left, top, right - left + 1, bottom - top + 1]
