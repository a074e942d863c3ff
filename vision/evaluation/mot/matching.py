"""Who was followed by whom: the matches of CLEAR MOT frame by frame, and what went wrong between them.

The rule is that of the metric (Bernardin 2008, section 2.2): a pair of the frame before stays together while it
overlaps enough, the rest is assigned with the largest overlap. So the switches and breaks listed here are exactly those
that IDSW and Frag count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from vision.evaluation.mot.sequence import EPSILON, IOU, ScoredSequence
from vision.types import IntArray

UNMATCHED = -1
# More than any sum of overlaps in a frame of a thousand objects: what was together stays together first.
_KEEP = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """The match of each object row of a sequence, in the order of ``sequence.objects``.

    Attributes:
        sequence: what was matched.
        result_rows: int64 [R], row among ``sequence.results``, -1 where the object was missed.
        overlap: float64 [R], IoU of the match, 0 where missed.
        resumed: bool [R], True where an object is matched and was not in the frame before.
    """

    sequence: ScoredSequence
    result_rows: IntArray
    overlap: npt.NDArray[np.float64]
    resumed: npt.NDArray[np.bool_]

    @property
    def matched(self) -> npt.NDArray[np.bool_]:
        """Whether each object row has a match, bool [R]."""
        return np.asarray(self.result_rows != UNMATCHED)

    @property
    def result_ids(self) -> IntArray:
        """Id of the matched result of each object row, int64 [R]; -1 where missed."""
        ids = np.full(len(self.result_rows), UNMATCHED, np.int64)
        ids[self.matched] = self.sequence.results.ids[self.result_rows[self.matched]]
        return ids

    @property
    def is_false(self) -> npt.NDArray[np.bool_]:
        """Whether each result row is a false positive, bool [Q]."""
        false = np.ones(len(self.sequence.results), np.bool_)
        false[self.result_rows[self.matched]] = False
        return false


@dataclass(frozen=True, slots=True)
class Switch:
    """An object that is followed by another id than before.

    Attributes:
        object_id: of the ground truth. frame: from 1, in which the new id takes over.
        before_frame: the last frame that was matched before.
        before_id, after_id: ids of the results.
        before_row, after_row: rows among the sequence's objects.
        kind: "new track" (the id matched nothing before), "taken from N" (it followed object N before) or "returned"
            (it had followed this object before).
    """

    object_id: int
    frame: int
    before_frame: int
    before_id: int
    after_id: int
    before_row: int
    after_row: int
    kind: str


def match_sequence(sequence: ScoredSequence, iou: float = IOU) -> Matches:
    """Return the CLEAR matches of a sequence at an overlap of at least ``iou``."""
    objects, results = sequence.objects, sequence.results
    found = np.full(len(objects), UNMATCHED, np.int64)
    overlap = np.zeros(len(objects))
    resumed = np.zeros(len(objects), np.bool_)
    partner = np.full(len(objects.known_ids), UNMATCHED, np.int64)
    for index in range(sequence.length):
        rows, columns = objects.of_frame(index), results.of_frame(index)
        # As TrackEval: a frame without objects or without results breaks no pair.
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        ids, result_ids = objects.id_rows[rows], results.id_rows[columns]
        pair_rows, pair_columns = _assign(sequence.overlaps[index], partner[ids][:, None] == result_ids, iou)
        places = rows.start + pair_rows
        found[places] = columns.start + pair_columns
        overlap[places] = sequence.overlaps[index][pair_rows, pair_columns]
        resumed[places] = partner[ids[pair_rows]] == UNMATCHED
        partner[:] = UNMATCHED
        partner[ids[pair_rows]] = result_ids[pair_columns]
    return Matches(sequence, found, overlap, resumed)


def _assign(
    overlap: npt.NDArray[np.float64], together: npt.NDArray[np.bool_], iou: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return rows and columns of the matched pairs of one frame."""
    score = np.where(overlap < iou - EPSILON, 0, _KEEP * together + overlap)
    rows, columns = linear_sum_assignment(-score)
    kept = score[rows, columns] > EPSILON
    return rows[kept], columns[kept]


def find_switches(matches: Matches) -> list[Switch]:
    """Return the identity switches in the order of frames; as many as TrackEval's IDSW."""
    objects = matches.sequence.objects
    ids = matches.result_ids
    rows = np.flatnonzero(matches.matched)
    # Sorted by object, then frame: the neighbours of a row are the matches before and after it.
    rows = rows[np.lexsort((objects.frames[rows], objects.id_rows[rows]))]
    before, after = rows[:-1], rows[1:]
    changed = (objects.id_rows[before] == objects.id_rows[after]) & (ids[before] != ids[after])
    pairs = sorted(zip(before[changed].tolist(), after[changed].tolist(), strict=True), key=lambda pair: pair[1])
    history = _History(matches)
    return [
        Switch(
            object_id=int(objects.ids[new]),
            frame=int(objects.frames[new]),
            before_frame=int(objects.frames[old]),
            before_id=int(ids[old]),
            after_id=int(ids[new]),
            before_row=old,
            after_row=new,
            kind=history.kind(int(ids[new]), int(objects.frames[new]), int(objects.ids[new])),
        )
        for old, new in pairs
    ]


class _History:
    """Which objects each result followed, and when."""

    def __init__(self, matches: Matches) -> None:
        objects = matches.sequence.objects
        rows = np.flatnonzero(matches.matched)
        self._followed: dict[int, list[tuple[int, int]]] = {}
        for result_id, frame, object_id in zip(
            matches.result_ids[rows].tolist(), objects.frames[rows].tolist(), objects.ids[rows].tolist(), strict=True
        ):
            self._followed.setdefault(result_id, []).append((frame, object_id))

    def kind(self, result_id: int, frame: int, object_id: int) -> str:
        """Return what a result that takes over an object in a frame had done before it."""
        earlier = [followed for when, followed in self._followed[result_id] if when < frame]
        if not earlier:
            return "new track"
        if earlier[-1] != object_id:
            return f"taken from {earlier[-1]}"
        return "returned"
