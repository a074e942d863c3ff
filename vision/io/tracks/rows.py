"""Rows of a file, as they were read, into Trajectories: every format's numbers are checked here, and once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.io.tracks.columns import MOST_CLASSES
from vision.tracking.trajectories import Trajectories

Column = npt.NDArray[Any]
Place = Callable[[int], str]

# Float64 holds whole numbers below this exactly; a larger id would come out as another one.
_EXACT = 2**53
_LARGEST_COORDINATE = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Rows:
    """R unchecked rows of tracks, numbers of any dtype.

    Attributes:
        frames: [R] from 0.
        ids: [R].
        boxes: [R, 4] xyxy pixels.
        scores: [R], or None for 1 everywhere.
        labels: [R], or None for 0 everywhere.
        filled: [R], true where no detection stood behind the row, or None for nowhere.
    """

    frames: Column
    ids: Column
    boxes: Column
    scores: Column | None = None
    labels: Column | None = None
    filled: Column | None = None


def to_trajectories(rows: Rows, place: Place, *, first_frame: int = 0, first_label: int = 0) -> Trajectories:
    """Return the rows as a checked value.

    Args:
        rows: what the file holds; frames counted from 0 already.
        place: says where row r stands in the file, such as "tracks.csv line 12"; called for errors only.
        first_frame, first_label: the number that the file gives to the first frame and class, for messages.

    Raises:
        InvalidInputError: names the place of a number that is not finite or not whole, a frame before the first, an id
            below 0, a box with negative size, or a second row of one id in one frame.
    """
    n = len(rows.frames)
    scores = np.ones(n, np.float32) if rows.scores is None else rows.scores
    labels = np.zeros(n, np.int64) if rows.labels is None else rows.labels
    frames = _whole("frame", rows.frames, place, offset=first_frame)
    ids = _whole("track id", rows.ids, place)
    labels = _whole("class", labels, place, offset=first_label)
    _refuse(frames < 0, frames + first_frame, place, f"have a frame number from {first_frame}", "correct the row")
    _refuse(ids < 0, ids, place, "have a track id >= 0", "a file of detections has no ids: stride32 track --detections")
    bad = (labels < 0) | (labels >= MOST_CLASSES)
    limits = f"from {first_label} to {MOST_CLASSES - 1 + first_label}"
    _refuse(bad, labels + first_label, place, f"have a class {limits}", "correct the class")
    boxes = np.asarray(rows.boxes, np.float64).reshape(n, 4)
    for name, column in (
        ("score", np.asarray(scores, np.float64)),
        *zip(("x1", "y1", "x2", "y2"), boxes.T, strict=True),
    ):
        _refuse(
            np.asarray(~(np.abs(column) <= _LARGEST_COORDINATE)),
            column,
            place,
            f"have a finite {name}",
            "correct or remove the row",
        )
    sizes = boxes[:, 2:] - boxes[:, :2]
    _refuse(
        np.asarray((sizes < 0).any(axis=1)), sizes, place, "have a width and a height >= 0", "correct or remove the row"
    )
    _refuse_doubles(frames, ids, place, first_frame)
    return Trajectories(
        frames=frames,
        ids=ids,
        boxes=boxes.astype(np.float32),
        scores=np.asarray(scores, np.float32),
        labels=labels,
        filled=np.zeros(n, np.bool_) if rows.filled is None else np.asarray(rows.filled, np.bool_),
    )


def _whole(name: str, column: Column, place: Place, *, offset: int = 0) -> npt.NDArray[np.int64]:
    """Return the column as int64, or raise at the first entry that is no whole number."""
    if column.dtype.kind in "iu":
        return column.astype(np.int64, copy=False)
    with np.errstate(invalid="ignore"):
        bad = ~((np.abs(column) < _EXACT) & (column == np.floor(column)))
    _refuse(bad, column + offset, place, f"have a whole number as {name}", "correct the row")
    return column.astype(np.int64)


def _refuse(bad: npt.NDArray[np.bool_], values: Column, place: Place, must: str, remedy: str) -> None:
    """Raise InvalidInputError at the first row where ``bad`` holds."""
    if bad.any():
        row = int(np.argmax(bad))
        found = " x ".join(f"{value:g}" for value in np.atleast_1d(values[row]).tolist())
        raise InvalidInputError(f"{place(row)} must {must}, got {found}; {remedy}")


def _refuse_doubles(frames: Column, ids: Column, place: Place, first_frame: int) -> None:
    """Raise InvalidInputError at the first row that repeats the id of another in its frame."""
    order = np.lexsort((ids, frames))
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    if same.any():
        # lexsort is stable: the later of two equal rows stands behind.
        row = int(order[1:][same].min())
        raise InvalidInputError(
            f"{place(row)} must have a track id of its own in frame {frames[row] + first_frame}, "
            f"got {ids[row]} a second time; remove one of the two rows, or give one video of several"
        )
