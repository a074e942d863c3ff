"""All tracks of one sequence as columns: what is left of a video once its frames have passed.

Writers, smoothing, counting and evaluation of finished tracks work on this value; the tracker itself never sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.types import FloatArray, FrameResult, IntArray, Selection, Tracks, TrackState
from vision.validation import as_boxes, as_column, describe

TRAJECTORY_FIELDS = ("frames", "ids", "boxes", "scores", "labels", "filled")


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """R observations of the tracks of one sequence, one row for each track in each frame, sorted by (frame, id).

    Rows may be given in any order; they are sorted at construction.

    Attributes:
        frames: int64 [R], frame indices from 0.
        ids: int64 [R], track ids >= 0, unique in a frame.
        boxes: float32 [R, 4] xyxy pixels, finite, x1 <= x2, y1 <= y2.
        scores: float32 [R], higher is surer; any finite number.
        labels: int64 [R], class index >= 0.
        filled: bool [R], True where no detection stood behind the row: interpolated or coasted.
    """

    frames: IntArray
    ids: IntArray
    boxes: FloatArray
    scores: FloatArray
    labels: IntArray
    filled: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        boxes = as_boxes(self.boxes)
        columns: dict[str, npt.NDArray[np.generic]] = {"boxes": boxes}
        columns["scores"] = as_column("scores", self.scores, np.float32, len(boxes))
        columns["filled"] = as_column("filled", self.filled, np.bool_, len(boxes))
        for name in ("frames", "ids", "labels"):
            columns[name] = _as_index(name, getattr(self, name), len(boxes))
        order = _sort_order(columns["frames"], columns["ids"])
        for name, column in columns.items():
            object.__setattr__(self, name, column if order is None else column[order])
        self._check_unique()

    def _check_unique(self) -> None:
        """Raise unless each track has at most one row in a frame; the rows are sorted already."""
        twice = (self.frames[1:] == self.frames[:-1]) & (self.ids[1:] == self.ids[:-1])
        if twice.any():
            row = int(np.flatnonzero(twice)[0])
            raise InvalidInputError(
                f"a track must have at most one box in a frame, got two of id {self.ids[row]} in frame index "
                f"{self.frames[row]}; remove one, or give one of them another id"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, selection: Selection) -> Self:
        """Return the selected rows (boolean mask, index array or slice) as a new value."""
        return type(self)(*(getattr(self, name)[selection] for name in TRAJECTORY_FIELDS))

    @property
    def track_ids(self) -> IntArray:
        """The ids that occur, int64 [T], rising."""
        return np.unique(self.ids)

    def of(self, track_id: int) -> Self:
        """Return the rows of one track in the order of frames; none for an unknown id."""
        return self[self.ids == track_id]

    def at(self, frame: int) -> Self:
        """Return the rows of one frame index by rising id; none where nothing was tracked."""
        first, last = np.searchsorted(self.frames, [frame, frame + 1])
        return self[int(first) : int(last)]

    def split(self) -> Iterator[tuple[int, Self]]:
        """Yield (id, its rows in the order of frames) of each track by rising id; sorts once for all of them."""
        order = np.argsort(self.ids, kind="stable")
        ids, first = np.unique(self.ids[order], return_index=True)
        for track_id, rows in zip(ids.tolist(), np.split(order, first[1:]), strict=len(ids) > 0):
            yield track_id, self[rows]

    @classmethod
    def empty(cls) -> Self:
        """Return the value of a sequence without tracks."""
        column = np.zeros(0, np.int64)
        return cls(column, column, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), column, np.zeros(0, np.bool_))

    @classmethod
    def concat(cls, parts: Sequence[Trajectories]) -> Self:
        """Return the rows of all parts; raises InvalidInputError when two of them have one id in one frame."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in TRAJECTORY_FIELDS))

    @classmethod
    def from_results(cls, results: Iterable[FrameResult]) -> Self:
        """Return the confirmed tracks of each frame in which they were seen, as the MOT writer counts them.

        Tentative and coasting tracks are left out, and so are frames without a tracker's output. A row without a
        detection behind it (``detection_index`` -1, as offline results have) is marked ``filled``.
        """
        frames: list[IntArray] = []
        seen: list[Tracks] = []
        for result in results:
            if result.tracks is None:
                continue
            tracks = result.tracks
            tracks = tracks[(tracks.states == TrackState.CONFIRMED) & (tracks.time_since_update == 0)]
            seen.append(tracks)
            frames.append(np.full(len(tracks), result.frame_index, np.int64))
        if not seen:
            return cls.empty()
        columns = {
            name: np.concatenate([getattr(tracks, name) for tracks in seen])
            for name in ("ids", "boxes", "scores", "labels")
        }
        filled = np.concatenate([tracks.detection_index < 0 for tracks in seen])
        return cls(frames=np.concatenate(frames), filled=filled, **columns)


def _as_index(name: str, value: object, length: int) -> IntArray:
    """Return an int64 [R] column of numbers >= 0, or raise; fractions are refused rather than cut."""
    given = np.asarray(value)
    if given.dtype.kind not in "iu" and given.size:
        raise InvalidInputError(f"{name} must be whole numbers, got {describe(given)}; convert with astype(np.int64)")
    column: IntArray = as_column(name, given, np.int64, length)
    if length and column.min() < 0:
        raise InvalidInputError(f"{name} must be >= 0, got {column.min()}; drop or renumber such rows")
    return column


def _sort_order(frames: npt.NDArray[np.generic], ids: npt.NDArray[np.generic]) -> npt.NDArray[np.intp] | None:
    """Return the rows in the order of (frame, id), or None where they are in it already."""
    later, same = frames[1:] > frames[:-1], frames[1:] == frames[:-1]  # type: ignore[operator]
    if bool(np.all(later | (same & (ids[1:] >= ids[:-1])))):  # type: ignore[operator]
        return None
    return np.lexsort((ids, frames))
