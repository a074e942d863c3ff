"""Merging detections of overlapping views of one picture: greedy non-maximum merging, in numpy.

Suppression (NMS) drops what overlaps a surer box. Merging (NMM) lets the surer box take over from the others what it
lacks, which boxes need that the border of a view has cut. The measure IoS (intersection over the smaller box) for this
purpose is that of slicing-aided inference (Akyon et al. 2022, section 3); the rule for cut boxes is ours, see
docs/tiling.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from vision.detection.config import TileMatch
from vision.errors import InvalidInputError
from vision.geometry.boxes import box_area
from vision.types import Detections
from vision.validation import describe

BoolArray = npt.NDArray[np.bool_]

# A whole box that is less than a third as sure as a cut one is no evidence of what the cut one belongs to. With scores
# from 1/3 on, every cut box yields to the whole one.
SURENESS_RATIO = 3.0


def merge_detections(
    detections: Detections,
    *,
    threshold: float = 0.5,
    match: TileMatch = "ios",
    cut: BoolArray | None = None,
    class_agnostic: bool = False,
) -> tuple[Detections, BoolArray]:
    """Return the merged detections, best first, and which of their sides are still cut, bool [M, 4].

    Boxes are taken in order: whole ones before cut ones, then by falling score. Each takes the later ones that match
    it and moves those of its sides that are cut out to the farthest of the group. Sides that are not cut stay where the
    surest box saw them. Its score stays too: that of a cut box tells how sure the part is, not the whole. This is
    repeated until nothing matches, so merging the result once more changes nothing. The order of the rows does not
    matter.

    Args:
        detections: of all views, in pixels of the picture; embeddings are dropped.
        threshold: the match from which boxes are merged, in (0, 1].
        match: "iou"; "ios" (intersection over the smaller box); or "border": IoU, and for a box with a cut side also
            the share of it inside the other box.
        cut: bool [N, 4], whether the border of a view, and not the object's end, is at x1, y1, x2, y2. None when that
            is not known: any side may then be cut, and a group becomes the box around it (plain NMM).
        class_agnostic: merge across classes; the surer label stays.

    Raises:
        InvalidInputError: ``cut`` is not bool [N, 4].

    Time is O(kept x N), memory O(N).
    """
    if cut is None:
        cut = np.ones((len(detections), 4), np.bool_)
    elif cut.shape != (len(detections), 4) or cut.dtype != np.bool_:
        raise InvalidInputError(
            f"cut must be bool [N, 4] for {len(detections)} boxes, got {describe(cut)}; give one flag a side"
        )
    # float64: the areas of boxes of a large picture lose digits in float32, and a merged box would match anew.
    rows = _Rows(detections.boxes.astype(np.float64), detections.scores, detections.labels, cut)
    while True:
        merged = _merge_once(rows, threshold, match, class_agnostic)
        if len(merged) == len(rows):
            break
        rows = merged
    rows = rows[np.lexsort((*rows.tie_breakers(), -rows.scores))]
    return Detections(rows.boxes.astype(np.float32), rows.scores, rows.labels), rows.cut


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Boxes under merging: float64 [N, 4], scores [N], labels [N], cut [N, 4]."""

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    cut: BoolArray

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, selection: npt.NDArray[np.intp]) -> Self:
        return type(self)(self.boxes[selection], self.scores[selection], self.labels[selection], self.cut[selection])

    def tie_breakers(self) -> tuple[npt.NDArray[np.generic], ...]:
        """Return keys that order rows of equal score, so that the order of the input does not matter."""
        return (self.cut @ np.array([1, 2, 4, 8]), self.labels, *self.boxes.T)


def _merge_once(rows: _Rows, threshold: float, match: TileMatch, class_agnostic: bool) -> _Rows:
    """Return the rows after one greedy pass; as many as before when nothing matched."""
    rows = rows[np.lexsort((*rows.tie_breakers(), -rows.scores, rows.cut.any(axis=1)))]
    boxes, cut = rows.boxes.copy(), rows.cut.copy()
    areas, is_cut = box_area(rows.boxes), np.asarray(rows.cut.any(axis=1), np.bool_)
    waiting = np.ones(len(rows), np.bool_)
    kept = []
    for row in range(len(rows)):
        if not waiting[row]:
            continue
        kept.append(row)
        later = slice(row + 1, None)
        matches = waiting[later] & (_matches(rows.boxes, areas, is_cut, row, match) >= threshold)
        if not class_agnostic:
            matches &= rows.labels[later] == rows.labels[row]
        if not is_cut[row]:
            matches &= ~is_cut[later] | (rows.scores[later] <= SURENESS_RATIO * rows.scores[row])
        group = np.flatnonzero(matches) + row + 1
        if len(group):
            waiting[group] = False
            boxes[row], cut[row] = _extended(rows, row, group)
    return replace(rows, boxes=boxes, cut=cut)[np.asarray(kept, np.intp)]


def _matches(
    boxes: npt.NDArray[np.float64], areas: npt.NDArray[np.floating], is_cut: BoolArray, row: int, match: TileMatch
) -> npt.NDArray[np.float64]:
    """Return how well each later box matches that of ``row``, in [0, 1]; 0 where they do not overlap."""
    later = slice(row + 1, None)
    left_top = np.maximum(boxes[later, :2], boxes[row, :2])
    size = np.maximum(np.minimum(boxes[later, 2:], boxes[row, 2:]) - left_top, 0)
    common = size[:, 0] * size[:, 1]
    whole = areas[later] + areas[row] - common
    if match == "ios":
        whole = np.minimum(areas[later], areas[row])
    elif match == "border":
        # The share of a cut box is larger than the IoU; of two cut boxes the smaller one counts.
        whole = np.where(is_cut[later], np.minimum(whole, areas[later]), whole)
        whole = np.minimum(whole, areas[row]) if is_cut[row] else whole
    return np.asarray(np.divide(common, whole, out=np.zeros_like(common), where=common > 0), np.float64)


def _extended(rows: _Rows, row: int, group: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Return the box of ``row`` with its cut sides moved out to the group's farthest, and the flags of its sides."""
    members = np.append(group, row)
    # Seen with the sign turned, left and top are far when they are large, as right and bottom are.
    outward = rows.boxes[members] * (-1, -1, 1, 1)
    farthest = outward.max(axis=0)
    box = np.where(rows.cut[row], farthest * (-1, -1, 1, 1), rows.boxes[row])
    # A side is at the object's end when any box that reaches it saw it there.
    still_cut = (rows.cut[members] | (outward < farthest)).all(axis=0)
    return box, rows.cut[row] & still_cut
