"""Named cases of merging: what is one object, which score and box it gets, and what a cut side may do."""

from __future__ import annotations

import numpy as np
import pytest

from vision.detection.config import TileMatch
from vision.detection.merge import merge_detections
from vision.errors import InvalidInputError
from vision.types import Detections

Row = tuple[float, float, float, float, float]
NO_SIDE = (False, False, False, False)
LEFT, TOP = (True, False, False, False), (False, True, False, False)
RIGHT, BOTTOM = (False, False, True, False), (False, False, False, True)


def detections(*rows: Row, labels: tuple[int, ...] | None = None) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4], np.zeros(len(table)) if labels is None else np.array(labels))


def rows_of(found: Detections) -> list[Row]:
    return [(*box, round(score, 3)) for box, score in zip(found.boxes.tolist(), found.scores.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("match", "rows", "expected"),
    [
        ("iou", [], []),
        ("iou", [(0, 0, 4, 4, 0.9)], [(0, 0, 4, 4, 0.9)]),
        # IoU 0.5 is the threshold and merges; a group becomes the box around it.
        ("iou", [(0, 0, 3, 4, 0.5), (1, 0, 4, 4, 0.9)], [(0, 0, 4, 4, 0.9)]),
        ("iou", [(0, 0, 4, 4, 0.9), (0, 0, 2, 2, 0.5)], [(0, 0, 4, 4, 0.9), (0, 0, 2, 2, 0.5)]),
        ("ios", [(0, 0, 4, 4, 0.9), (0, 0, 2, 2, 0.5)], [(0, 0, 4, 4, 0.9)]),
        ("ios", [(0, 0, 4, 4, 0.5), (0, 0, 2, 2, 0.9)], [(0, 0, 4, 4, 0.9)]),
        # A chain: the box around the first two matches the third, which neither of them did.
        ("ios", [(0, 0, 6, 2, 0.9), (3, 0, 9, 2, 0.8), (5, 0, 11, 2, 0.7)], [(0, 0, 11, 2, 0.9)]),
        # Touching edges and boxes without area share nothing.
        ("ios", [(0, 0, 2, 2, 0.9), (2, 0, 4, 2, 0.8)], [(0, 0, 2, 2, 0.9), (2, 0, 4, 2, 0.8)]),
        ("ios", [(0, 0, 4, 4, 0.9), (1, 1, 1, 3, 0.8)], [(0, 0, 4, 4, 0.9), (1, 1, 1, 3, 0.8)]),
    ],
)
def test_plain_merging(match: TileMatch, rows: list[Row], expected: list[Row]) -> None:
    merged, _ = merge_detections(detections(*rows), match=match, threshold=0.5)
    assert rows_of(merged) == expected


@pytest.mark.parametrize(
    ("rows", "cut", "expected"),
    [
        # A child before an adult: whole boxes are judged by IoU, so the one inside the other stays ...
        pytest.param(
            [(0, 0, 10, 20, 0.9), (2, 10, 6, 20, 0.8)],
            [NO_SIDE, NO_SIDE],
            [(0, 0, 10, 20, 0.9), (2, 10, 6, 20, 0.8)],
            id="two whole boxes",
        ),
        # ... but what a border has cut belongs to the whole that covers it, and changes nothing about it.
        pytest.param(
            [(0, 0, 10, 20, 0.6), (-1, 0, 4, 20, 0.8)],
            [NO_SIDE, RIGHT],
            [(0, 0, 10, 20, 0.6)],
            id="a cut box yields to the whole",
        ),
        pytest.param(
            [(0, 0, 6, 8, 0.8), (4, 0, 9, 8, 0.9)],
            [RIGHT, LEFT],
            [(4, 0, 9, 8, 0.9), (0, 0, 6, 8, 0.8)],
            id="two halves with too little in common",
        ),
        pytest.param(
            [(0, 0, 6, 8, 0.8), (2, 1, 9, 9, 0.9)],
            [RIGHT, LEFT],
            [(0, 1, 9, 9, 0.9)],
            id="two halves: the surer one keeps the sides that it saw",
        ),
        pytest.param(
            [(0, 0, 6, 6, 0.9), (3, 0, 8, 6, 0.8), (0, 3, 6, 8, 0.7), (3, 3, 8, 8, 0.6)],
            [
                (False, False, True, True),
                (True, False, False, True),
                (False, True, True, False),
                (True, True, False, False),
            ],
            [(0, 0, 8, 8, 0.9)],
            id="four quarters",
        ),
        # Two people side by side; the left one was also seen cut, which must not cost the right one.
        pytest.param(
            [(0, 0, 8, 20, 0.7), (4, 0, 12, 20, 0.6), (2, 0, 7, 20, 0.9)],
            [NO_SIDE, NO_SIDE, LEFT],
            [(0, 0, 8, 20, 0.7), (4, 0, 12, 20, 0.6)],
            id="whole boxes come first",
        ),
        pytest.param(
            [(0, 0, 90, 90, 0.02), (5, 5, 20, 40, 0.9)],
            [NO_SIDE, BOTTOM],
            [(5, 5, 20, 40, 0.9), (0, 0, 90, 90, 0.02)],
            id="a doubtful whole does not swallow a sure cut box",
        ),
    ],
)
def test_boxes_that_a_border_cuts(rows: list[Row], cut: list[tuple[bool, ...]], expected: list[Row]) -> None:
    merged, _ = merge_detections(detections(*rows), match="border", threshold=0.5, cut=np.array(cut))
    assert rows_of(merged) == expected


def test_a_side_seen_by_one_half_is_no_longer_cut() -> None:
    halves = detections((0, 0, 6, 8, 0.8), (3, 0, 9, 8, 0.9))
    merged, cut = merge_detections(halves, match="border", cut=np.array([RIGHT, LEFT]))
    assert rows_of(merged) == [(0, 0, 9, 8, 0.9)]
    assert not cut.any()
    _, cut = merge_detections(halves, match="border", cut=np.array([RIGHT, (True, True, False, False)]))
    # The surer half is cut at the top; the other one saw the object end there.
    assert not cut.any()


def test_labels_keep_objects_apart_unless_told_otherwise() -> None:
    found = detections((0, 0, 4, 4, 0.5), (0, 0, 4, 4, 0.9), labels=(0, 3))
    assert merge_detections(found)[0].labels.tolist() == [3, 0]
    assert merge_detections(found, class_agnostic=True)[0].labels.tolist() == [3]


def test_flags_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"bool \[N, 4\] for 1 boxes, got .*one flag a side"):
        merge_detections(detections((0, 0, 4, 4, 0.5)), cut=np.zeros((2, 4), bool))
