"""One sequence as it is scored: objects and results of the chosen classes by frame, and their overlaps.

The rules are those of MOTChallenge (Milan 2016, section 4.1; Dendorfer 2020, section 4): ignored objects do not count,
and results on distractors, such as people on vehicles and reflections, count neither way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from vision.evaluation.mot.files import PERSON, GroundTruth, Rows
from vision.geometry.boxes import xywh_to_xyxy
from vision.geometry.iou import pairwise_iou
from vision.types import IntArray

IOU = 0.5
EPSILON = np.finfo("float").eps
# People on vehicles, people who do not move (statues), things that look like people, and reflections.
DISTRACTORS = (2, 7, 8, 12)
# In MOT20 also vehicles that are not annotated throughout.
MOT20_DISTRACTORS = (*DISTRACTORS, 6)

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """The boxes of one side that count, sorted by frame.

    Attributes:
        frames: int64 [R], from 1. ids: int64 [R], as in the file. boxes: float64 [R, 4] xyxy pixels.
        starts: int64 [length + 1], first row of each frame; rows of frame t are starts[t - 1] to starts[t].
        known_ids: int64 [I], rising. id_rows: int64 [R], position of each row's id in known_ids.
    """

    frames: IntArray
    ids: IntArray
    boxes: Boxes
    starts: IntArray
    known_ids: IntArray
    id_rows: IntArray

    def __len__(self) -> int:
        return len(self.frames)

    def of_frame(self, index: int) -> slice:
        """Return the rows of frame ``index`` from 0."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSequence:
    """A sequence after preprocessing: what counts, and the IoU of each pair in a frame.

    Attributes:
        name: of the sequence.
        length: its frames.
        objects, results: what counts.
        overlaps: for each frame the IoU matrix [objects, results], float64.
        forgiven: results on distractors, which were taken out.
    """

    name: str
    length: int
    objects: ScoredRows
    results: ScoredRows
    overlaps: tuple[Boxes, ...]
    forgiven: int = 0

    def trackeval_data(self) -> dict[str, Any]:
        """Return the dictionary that TrackEval's metrics read."""
        frames = [self.objects.of_frame(t) for t in range(self.length)]
        found = [self.results.of_frame(t) for t in range(self.length)]
        return {
            "seq": self.name,
            "num_timesteps": self.length,
            "num_gt_ids": len(self.objects.known_ids),
            "num_tracker_ids": len(self.results.known_ids),
            "num_gt_dets": len(self.objects),
            "num_tracker_dets": len(self.results),
            "gt_ids": [self.objects.id_rows[rows] for rows in frames],
            "tracker_ids": [self.results.id_rows[rows] for rows in found],
            "similarity_scores": list(self.overlaps),
        }


def scored_sequence(
    name: str, truth: GroundTruth, tracked: Rows, classes: Collection[int] | None = None, *, by_class: bool = False
) -> ScoredSequence:
    """Return what counts of a sequence.

    Args:
        name: of the sequence; MOT20's forgive one class more.
        truth: its ground truth.
        tracked: float64 [Q, 7], its results.
        classes: of the ground truth that are scored. None is the benchmark's rule: people, with distractors forgiven,
            or every row where there are no classes.
        by_class: leave out results of other classes too; their class column must be known.
    """
    active = truth.rows[:, 6] != 0
    if classes is None and truth.is_benchmark:
        distractors = MOT20_DISTRACTORS if name.startswith("MOT20") else DISTRACTORS
        counted = active & (truth.rows[:, 7] == PERSON)
        forgiven = _on_distractors(truth, tracked, distractors)
    else:
        counted = active if classes is None else active & np.isin(truth.rows[:, 7], list(classes))
        forgiven = np.zeros(len(tracked), np.bool_)
    kept = ~forgiven
    if by_class and classes is not None:
        kept &= np.isin(tracked[:, 6], list(classes))
    objects, results = _rows(truth.rows[counted], truth.length), _rows(tracked[kept], truth.length)
    overlaps = tuple(
        np.asarray(pairwise_iou(objects.boxes[objects.of_frame(t)], results.boxes[results.of_frame(t)]), np.float64)
        for t in range(truth.length)
    )
    return ScoredSequence(name, truth.length, objects, results, overlaps, int(forgiven.sum()))


def _rows(table: Rows, length: int) -> ScoredRows:
    # Stable: the order within a frame decides ties of the assignment, and TrackEval keeps that of the file.
    table = table[np.argsort(table[:, 0], kind="stable")]
    frames, ids = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    starts = np.searchsorted(frames, np.arange(1, length + 2)).astype(np.int64)
    known, positions = np.unique(ids, return_inverse=True)
    return ScoredRows(frames, ids, np.asarray(xywh_to_xyxy(table[:, 2:6])), starts, known, positions.astype(np.int64))


def _on_distractors(truth: GroundTruth, tracked: Rows, distractors: Collection[int]) -> npt.NDArray[np.bool_]:
    """Return bool [Q]: which results match a distractor when every annotated box, ignored or not, may be matched."""
    forgiven = np.zeros(len(tracked), np.bool_)
    is_distractor = np.isin(truth.rows[:, 7], list(distractors))
    # By frame over the rows as they stand in the file: the assignment's ties follow their order.
    objects_by_frame, found_by_frame = _by_frame(truth.rows[:, 0]), _by_frame(tracked[:, 0])
    for frame in np.unique(truth.rows[is_distractor, 0]):
        objects, found = objects_by_frame[frame], found_by_frame.get(frame)
        if found is None:
            continue
        overlap = pairwise_iou(xywh_to_xyxy(truth.rows[objects, 2:6]), xywh_to_xyxy(tracked[found, 2:6]))
        overlap[overlap < IOU - EPSILON] = 0
        rows, columns = linear_sum_assignment(-overlap)
        matched = overlap[rows, columns] > EPSILON
        forgiven[found[columns[matched & is_distractor[objects[rows]]]]] = True
    return forgiven


def _by_frame(frames: Rows) -> dict[float, IntArray]:
    """Return the rows of each frame."""
    order = np.argsort(frames, kind="stable")
    numbers, first = np.unique(frames[order], return_index=True)
    parts = np.split(order, first[1:]) if len(numbers) else []
    return dict(zip(numbers.tolist(), parts, strict=True))
