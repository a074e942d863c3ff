"""Which windows learn what, and the loss of a batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vision.detection.window_losses import (
    BACKGROUND,
    IGNORED,
    WindowTarget,
    assign_windows,
    choose_negatives,
    window_loss,
)

NOMINAL = torch.tensor([[0.0, 0, 10, 20], [10, 0, 20, 20], [20, 0, 30, 20], [100, 100, 110, 120]])


def target(
    boxes: list[list[float]], labels: list[int] | None = None, ignored: list[list[float]] | None = None
) -> WindowTarget:
    return WindowTarget(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels or [0] * len(boxes), dtype=torch.int64),
        torch.tensor(ignored or [], dtype=torch.float32).reshape(-1, 4),
    )


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([], [BACKGROUND] * 4),
        ([[0, 0, 10, 20]], [0, BACKGROUND, BACKGROUND, BACKGROUND]),
        ([[200, 0, 210, 20], [10, 1, 20, 21]], [BACKGROUND, 1, BACKGROUND, BACKGROUND]),
        # Overlap 0.45: the object's best window, though below what makes others positive.
        ([[0, 0, 10, 9]], [0, BACKGROUND, BACKGROUND, BACKGROUND]),
        # Overlap 0.3: no window fits.
        ([[0, 0, 10, 6]], [BACKGROUND] * 4),
        # Two windows at 0.45 each: the first counts as the best one, the second is left out.
        ([[0, 0, 22, 20]], [0, IGNORED, BACKGROUND, BACKGROUND]),
    ],
)
def test_windows_are_assigned_by_overlap(boxes: list[list[float]], expected: list[int]) -> None:
    assert assign_windows(NOMINAL, target(boxes)).tolist() == expected


def test_windows_in_ignored_regions_are_no_background_but_may_show_objects() -> None:
    found = assign_windows(NOMINAL, target([[0, 0, 10, 20]], ignored=[[0, 0, 20, 20]]))
    assert found.tolist() == [0, IGNORED, BACKGROUND, BACKGROUND]


def test_half_of_the_negatives_are_the_most_offending() -> None:
    objectness = torch.arange(100.0)
    assigned = torch.full((100,), BACKGROUND)
    assigned[99], assigned[98] = 0, IGNORED
    chosen = choose_negatives(objectness, assigned, count=20, generator=torch.Generator().manual_seed(0))
    assert set(range(88, 98)) <= set(chosen.tolist())
    assert not {98, 99} & set(chosen.tolist())
    assert 10 < len(chosen) <= 20
    again = choose_negatives(objectness, assigned, count=20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chosen, again)
    few = choose_negatives(objectness[:3], assigned[:3], count=20, generator=torch.Generator())
    assert few.tolist() == [0, 1, 2]


def loss_of(outputs: tuple[Tensor, Tensor, Tensor], targets: list[WindowTarget]) -> tuple[float, float, float]:
    loss = window_loss(outputs, NOMINAL, targets, negatives_per_positive=3, generator=torch.Generator().manual_seed(0))
    assert loss.total.requires_grad
    loss.total.backward()
    return float(loss.objectness.detach()), float(loss.classification.detach()), float(loss.box.detach())


def outputs_of(objectness: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.zeros(1, 4, 2, requires_grad=True),
        torch.tensor([objectness], dtype=torch.float32, requires_grad=True),
        torch.zeros(1, 4, 4, requires_grad=True),
    )


def test_perfect_outputs_cost_nothing_but_the_undecided_class() -> None:
    objectness, classification, box = loss_of(outputs_of([30, -30, -30, -30]), [target([[0, 0, 10, 20]], [1])])
    assert objectness == pytest.approx(0, abs=1e-6)
    assert classification == pytest.approx(math.log(2))
    assert box == pytest.approx(0, abs=1e-6)


def test_a_false_positive_costs_its_logit() -> None:
    objectness, _, _ = loss_of(outputs_of([30, -30, 8, -30]), [target([[0, 0, 10, 20]])])
    assert objectness == pytest.approx(8, abs=1e-2)


def test_a_batch_without_objects_teaches_background_alone() -> None:
    outputs = outputs_of([0, 0, 0, 0])
    objectness, classification, box = loss_of(outputs, [target([])])
    assert objectness > 0
    assert (classification, box) == (0, 0)
    assert outputs[2].grad is not None
    assert not outputs[2].grad.any()


def test_objectness_learns_the_overlap_of_the_predicted_box() -> None:
    """The gradient of the objectness vanishes where its probability is the overlap: here IoU 0.5."""
    classes, objectness, deltas = outputs_of([0.0, -30, -30, -30])
    loss_of((classes, objectness, deltas), [target([[0, 0, 10, 10]])])
    assert objectness.grad is not None
    assert float(objectness.grad[0, 0]) == pytest.approx(0, abs=1e-6)
