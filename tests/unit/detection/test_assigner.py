"""ATSS and overlap thresholds on hand-made cases, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from vision.detection.anchors import AnchorConfig, Anchors, make_anchors
from vision.detection.assigner import ASSIGNERS, BACKGROUND, IGNORED, Assigner, assign_atss, assign_by_iou

SIZE_HW = (256, 256)


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    return make_anchors(AnchorConfig(ratios=(1.0,)), SIZE_HW)


def level_of(anchors: Anchors, rows: torch.Tensor) -> set[int]:
    bounds = torch.tensor(anchors.counts).cumsum(0)
    return set(torch.bucketize(rows, bounds, right=True).tolist())


def square(cx: float, cy: float, side: float) -> list[float]:
    return [cx - side / 2, cy - side / 2, cx + side / 2, cy + side / 2]


def random_boxes(count: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 180, (count, 2)), rng.uniform(10, 120, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + size], axis=1).astype(np.float32))


@pytest.mark.parametrize("assign", ASSIGNERS.values(), ids=ASSIGNERS)
def test_no_objects_leave_all_background(anchors: Anchors, assign: Assigner) -> None:
    assigned = assign(anchors, torch.zeros(0, 4))
    assert assigned.dtype == torch.int64
    assert assigned.shape == (len(anchors.boxes),)
    assert (assigned == -1).all()


@pytest.mark.parametrize(("side", "level"), [(32, 0), (64, 1), (128, 2), (250, 3)])
def test_an_object_is_learnt_at_the_level_of_its_size(anchors: Anchors, side: float, level: int) -> None:
    positive = torch.nonzero(assign_atss(anchors, torch.tensor([square(128, 128, side)])) == 0).squeeze(1)
    assert level_of(anchors, positive) == {level}


def test_an_object_that_is_an_anchor_by_hand() -> None:
    """One level of 4 x 4 cells of 8 pixels, square anchors of 16; the object is the anchor of cell (1, 1).

    With 5 candidates, IoU is 1 for that anchor and 1/3 for its four neighbours: mean 0.467, standard deviation 0.298,
    threshold 0.765, so that anchor alone is positive.
    """
    anchors = make_anchors(AnchorConfig(strides=(8,), scale=2.0, ratios=(1.0,)), (32, 32))
    assigned = assign_atss(anchors, anchors.boxes[5:6].clone(), candidates=5)
    assert torch.nonzero(assigned == 0).flatten().tolist() == [5]


def test_positives_have_their_centre_inside(anchors: Anchors) -> None:
    boxes = random_boxes(12)
    assigned = assign_atss(anchors, boxes)
    positive = torch.nonzero(assigned >= 0).squeeze(1)
    centres = (anchors.boxes[positive, :2] + anchors.boxes[positive, 2:]) / 2
    matched = boxes[assigned[positive]]
    assert len(positive) > 12
    assert ((centres > matched[:, :2]) & (centres < matched[:, 2:])).all()


def test_a_contested_anchor_goes_to_the_larger_overlap(anchors: Anchors) -> None:
    """Two objects around the same cell: every anchor that both claim overlaps its owner at least as much."""
    boxes = torch.tensor([square(132, 132, 32), square(134, 134, 36)])
    alone = [assign_atss(anchors, boxes[i : i + 1]) == 0 for i in range(2)]
    assigned = assign_atss(anchors, boxes)
    contested = torch.nonzero(alone[0] & alone[1]).squeeze(1)
    assert len(contested) > 0
    assert torch.equal(assigned[contested], box_iou(anchors.boxes[contested], boxes).argmax(dim=1))
    assert torch.equal(
        assigned[alone[0] & ~alone[1]], torch.zeros(int((alone[0] & ~alone[1]).sum()), dtype=torch.int64)
    )
    assert torch.equal(assigned[alone[1] & ~alone[0]], torch.ones(int((alone[1] & ~alone[0]).sum()), dtype=torch.int64))
    assert (assigned[~alone[0] & ~alone[1]] == -1).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("assign", ASSIGNERS.values(), ids=ASSIGNERS)
def test_permuting_the_objects_permutes_the_result(anchors: Anchors, assign: Assigner, seed: int) -> None:
    boxes = random_boxes(9, seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(9))
    assigned, permuted = assign(anchors, boxes), assign(anchors, boxes[order])
    assert torch.equal(torch.where(permuted >= 0, order[permuted.clamp(min=0)], permuted), assigned)


def test_fewer_anchors_than_candidates() -> None:
    anchors = make_anchors(AnchorConfig(strides=(64,), ratios=(1.0,)), (64, 64))
    assert assign_atss(anchors, torch.tensor([[0.0, 0, 64, 64]])).tolist() == [0]


def test_an_object_without_an_anchor_inside_is_background(anchors: Anchors) -> None:
    assert (assign_atss(anchors, torch.tensor([[4.5, 4.5, 7.5, 7.5]])) == -1).all()


# --- overlap thresholds ---


@pytest.fixture(scope="module")
def grid() -> Anchors:
    """One level of 4 x 4 cells of 8 pixels with square anchors of 16; cell (1, 1) is row 5 and covers 4 to 20."""
    return make_anchors(AnchorConfig(strides=(8,), scale=2.0, ratios=(1.0,)), (32, 32))


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (8.0, 0),  # IoU with the square anchor exactly 0.5
        (7.2, IGNORED),  # 0.45
        (6.5, IGNORED),  # just above 0.4
        (6.0, BACKGROUND),  # 0.375
    ],
)
def test_thresholds_by_hand(height: float, expected: int) -> None:
    """Two anchors: one fits the object and is its best, so that the other is judged by the thresholds alone."""
    box = torch.tensor([[4.0, 4, 20, 4 + height]])
    anchors = Anchors(torch.cat([torch.tensor([[4.0, 4, 20, 20]]), box]), (2,))
    assert assign_by_iou(anchors, box).tolist() == [expected, 0]


def test_every_object_inside_the_picture_is_learnt_by_its_best_anchor(anchors: Anchors) -> None:
    boxes = torch.tensor([square(60, 60, 9), square(150, 100, 20), [10.0, 200, 250, 206]])
    assigned = assign_by_iou(anchors, boxes)
    overlap = box_iou(anchors.boxes, boxes)
    assert (overlap.max(dim=0).values < 0.5).all()
    for row in range(3):
        assert assigned[overlap[:, row].argmax()] == row


def test_all_anchors_that_share_the_best_overlap_learn_the_object(grid: Anchors) -> None:
    """An object centred on the corner of four cells overlaps their four anchors alike, at 1/7 < 0.4."""
    assigned = assign_by_iou(grid, torch.tensor([square(16, 16, 6)]))
    assert torch.nonzero(assigned == 0).flatten().tolist() == [5, 6, 9, 10]


def test_an_anchor_that_is_the_best_of_two_goes_to_the_larger_overlap(grid: Anchors) -> None:
    assigned = assign_by_iou(grid, torch.tensor([square(12, 12, 6), square(12, 12, 8)]))
    assert torch.nonzero(assigned >= 0).flatten().tolist() == [5]
    assert assigned[5] == 1


def test_an_object_that_no_anchor_touches_claims_nothing(grid: Anchors) -> None:
    assert (assign_by_iou(grid, torch.tensor([[900.0, 900, 910, 910]])) == BACKGROUND).all()
