"""COCO run lengths to the box of their mask, without the mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
