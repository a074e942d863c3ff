"""Losses: their special cases, perfect and empty targets, finite gradients."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_iou, sigmoid_focal_loss

from vision.detection.anchors import AnchorConfig, Anchors, decode_boxes, encode_boxes, make_anchors
from vision.detection.assigner import IGNORED, assign_atss
from vision.detection.losses import BOX_WEIGHT, LOSSES, DetectionTarget, detection_loss, quality_focal_loss

CLASSES = 3
BOXES = torch.tensor([[10.0, 12, 60, 100], [70, 20, 120, 60]])
LABELS = torch.tensor([2, 0])
NOTHING = DetectionTarget(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


@pytest.fixture(scope="module")
def anchors() -> Anchors:
    return make_anchors(AnchorConfig(), (128, 128))


def noise(anchors: Anchors, batch: int = 1, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = len(anchors.boxes)
    logits = torch.randn(batch, count, CLASSES, generator=generator).requires_grad_()
    deltas = (0.3 * torch.randn(batch, count, 4, generator=generator)).requires_grad_()
    return logits, deltas


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_hard_targets_give_the_focal_loss(target: float) -> None:
    logits = torch.linspace(-12, 12, 60)
    targets = torch.full_like(logits, target)
    expected = sigmoid_focal_loss(logits, targets, alpha=-1, gamma=2, reduction="sum")
    torch.testing.assert_close(quality_focal_loss(logits, targets), expected)


def test_a_soft_target_is_best_met_exactly() -> None:
    quality = torch.tensor([0.7])
    exact = quality_focal_loss(torch.logit(quality), quality)
    assert exact.item() == pytest.approx(0, abs=1e-7)
    for logit in (-3.0, 0.0, 2.0):
        assert quality_focal_loss(torch.tensor([logit]), quality) > exact


@pytest.mark.parametrize("kind", LOSSES)
def test_a_perfect_prediction_costs_nothing(anchors: Anchors, kind: str) -> None:
    assigned = assign_atss(anchors, BOXES)
    positive = torch.nonzero(assigned >= 0).squeeze(1)
    logits = torch.full((1, len(anchors.boxes), CLASSES), -20.0)
    logits[0, positive, LABELS[assigned[positive]]] = 20.0
    deltas = torch.zeros(1, len(anchors.boxes), 4)
    deltas[0, positive] = encode_boxes(BOXES[assigned[positive]], anchors.boxes[positive])
    loss = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES, LABELS)], loss=kind)
    assert loss.box.item() == pytest.approx(0, abs=1e-5)
    assert loss.classification.item() == pytest.approx(0, abs=1e-5)


def test_the_class_target_is_the_overlap(anchors: Anchors) -> None:
    """With logits at the overlap of the predicted boxes, in the right class alone, the class loss vanishes."""
    _, deltas = noise(anchors)
    assigned = assign_atss(anchors, BOXES)
    positive = torch.nonzero(assigned >= 0).squeeze(1)
    with torch.no_grad():
        predicted = decode_boxes(deltas[0, positive], anchors.boxes[positive])
        overlap = box_iou(predicted, BOXES)[torch.arange(len(positive)), assigned[positive]]
    logits = torch.full((1, len(anchors.boxes), CLASSES), -20.0)
    logits[0, positive, LABELS[assigned[positive]]] = torch.logit(overlap, eps=1e-6)
    loss = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES, LABELS)])
    assert loss.classification.item() == pytest.approx(0, abs=1e-5)
    assert loss.box.item() > 0.05


def test_total_is_the_weighted_sum(anchors: Anchors) -> None:
    loss = detection_loss(*noise(anchors), anchors, [DetectionTarget(BOXES, LABELS)])
    torch.testing.assert_close(loss.total, loss.classification + BOX_WEIGHT * loss.box)


@pytest.mark.parametrize("targets", [[NOTHING, NOTHING], [DetectionTarget(BOXES, LABELS), NOTHING]])
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_and_gradients_are_finite(anchors: Anchors, targets: list[DetectionTarget], kind: str) -> None:
    logits, deltas = noise(anchors, batch=2)
    loss = detection_loss(logits, deltas, anchors, targets, loss=kind)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    for gradient in (logits.grad, deltas.grad):
        assert gradient is not None
        assert torch.isfinite(gradient).all()
    assert logits.grad is not None
    pushed = (logits.grad[1] > 0).all(dim=1)  # an empty picture pushes scores down
    assert int(pushed.sum()) == (3 if kind == "multibox" else len(pushed))
    assert not logits.grad[1, ~pushed].any()
    assert deltas.grad is not None
    assert not deltas.grad[1].any()  # and says nothing of boxes
    assert bool(deltas.grad[0].any()) == (len(targets[0].boxes) > 0)


@pytest.mark.parametrize("scale", [50.0, 1000.0])
@pytest.mark.parametrize("kind", LOSSES)
def test_wild_predictions_keep_gradients_finite(anchors: Anchors, scale: float, kind: str) -> None:
    logits, deltas = noise(anchors)
    logits, deltas = (logits.detach() * scale).requires_grad_(), (deltas.detach() * scale).requires_grad_()
    loss = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES, LABELS)], loss=kind)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert logits.grad is not None
    assert deltas.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(deltas.grad).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_order_of_objects_changes_nothing(anchors: Anchors, kind: str) -> None:
    logits, deltas = noise(anchors)
    one = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES, LABELS)], loss=kind)
    other = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES.flip(0), LABELS.flip(0))], loss=kind)
    torch.testing.assert_close(one.total, other.total)


@pytest.mark.parametrize("kind", LOSSES)
def test_ignored_anchors_have_no_part_in_the_loss(anchors: Anchors, kind: str) -> None:
    def assign(anchors: Anchors, boxes: torch.Tensor) -> torch.Tensor:
        assigned = assign_atss(anchors, boxes)
        assigned[:100] = IGNORED
        return assigned

    logits, deltas = noise(anchors)
    loss = detection_loss(logits, deltas, anchors, [DetectionTarget(BOXES, LABELS)], assign=assign, loss=kind)
    loss.total.backward()
    assert logits.grad is not None
    assert not logits.grad[0, :100].any()
    assert logits.grad[0, 100:].all() or kind == "multibox"


# --- the losses of the papers, by hand ---

ONE_LEVEL = make_anchors(AnchorConfig(strides=(8,), scale=2.0, ratios=(1.0,)), (32, 32))  # 16 anchors of 16 pixels


def test_focal_loss_by_hand() -> None:
    """One positive with logit 0: 0.25 * 0.5^2 * ln 2; 15 negatives with logit 0: 0.75 * 0.25 * ln 2 each."""
    target = DetectionTarget(ONE_LEVEL.boxes[5:6].clone(), torch.tensor([0]))
    deltas = torch.zeros(1, 16, 4)
    deltas[0, 5] = torch.tensor([0.5, 0, 0, 0])
    loss = detection_loss(torch.zeros(1, 16, 1), deltas, ONE_LEVEL, [target], loss="focal")
    count = int((assign_atss(ONE_LEVEL, target.boxes) == 0).sum())
    assert count == 1
    log2 = 0.6931472
    assert loss.classification.item() == pytest.approx((0.25 * 0.25 + 15 * 0.75 * 0.25) * log2, rel=1e-5)
    assert loss.box.item() == pytest.approx(0.5 - 1 / 18, rel=1e-5)  # |x| - beta / 2
    torch.testing.assert_close(loss.total, loss.classification + loss.box)


def test_multibox_takes_the_three_hardest_negatives_of_each_picture() -> None:
    target = DetectionTarget(ONE_LEVEL.boxes[5:6].clone(), torch.tensor([0]))
    logits = torch.full((1, 16, 1), -9.0)
    logits[0, [0, 3, 12, 15], 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    logits[0, 5, 0] = 0.0
    deltas = torch.zeros(1, 16, 4)
    deltas[0, 5] = torch.tensor([0.05, 0, 0, 0.4])
    logits.requires_grad_()
    loss = detection_loss(logits, deltas, ONE_LEVEL, [target], loss="multibox")
    softplus = torch.nn.functional.softplus(torch.tensor([0.0, 2.0, 3.0, 4.0])).sum()
    torch.testing.assert_close(loss.classification, softplus)
    # In units of the variances the errors are 0.5 (square part) and 2 (linear part).
    assert loss.box.item() == pytest.approx(0.125 + 1.5, rel=1e-5)
    loss.total.backward()
    assert logits.grad is not None
    assert torch.nonzero(logits.grad[0, :, 0]).flatten().tolist() == [3, 5, 12, 15]
