"""Losses of segmentation: by hand, and what ignored pixels do."""

import math

import pytest
import torch

from vision.segmentation.losses import balanced_weights, dice_loss, pixel_loss

IGNORE = 255


def logits_of(*probabilities):
    """[1, K, 1, W] logits whose softmax is the given probabilities, one tuple a pixel."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


def labels_of(*labels):
    return torch.tensor(labels)[None, None]


def test_cross_entropy_counts_known_pixels_alone():
    logits = logits_of((0.5, 0.5), (0.9, 0.1), (0.2, 0.8))
    loss = pixel_loss(logits, labels_of(0, IGNORE, 1), ignore=IGNORE)
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2, rel=1e-4)


def test_weights_count_classes_by_their_share():
    logits = logits_of((0.5, 0.5), (0.2, 0.8))
    loss = pixel_loss(logits, labels_of(0, 1), ignore=IGNORE, weights=torch.tensor([3.0, 1.0]))
    assert loss.item() == pytest.approx(-(3 * math.log(0.5) + math.log(0.8)) / 4, rel=1e-4)


def test_focal_loss_forgets_what_is_right():
    logits = logits_of((0.5, 0.5), (0.1, 0.9))
    loss = pixel_loss(logits, labels_of(0, 1), ignore=IGNORE, focal_gamma=2)
    assert loss.item() == pytest.approx(-(0.25 * math.log(0.5) + 0.01 * math.log(0.9)) / 2, rel=1e-4)


def test_dice_by_hand():
    logits = logits_of((0.7, 0.3), (0.4, 0.6))
    dice = [2 * 0.7 / (1 + 0.7 + 0.4), 2 * 0.6 / (1 + 0.3 + 0.6)]
    assert dice_loss(logits, labels_of(0, 1), ignore=IGNORE).item() == pytest.approx(1 - sum(dice) / 2, rel=1e-4)


def test_dice_leaves_out_classes_that_do_not_occur():
    logits = logits_of((0.7, 0.2, 0.1))
    loss = dice_loss(logits, labels_of(0), ignore=IGNORE)
    assert loss.item() == pytest.approx(1 - 2 * 0.7 / 1.7, rel=1e-4)


@pytest.mark.parametrize("loss", [pixel_loss, dice_loss])
def test_a_batch_without_any_known_pixel_has_no_loss_and_a_finite_gradient(loss):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    value = loss(logits, torch.full((1, 2, 2), IGNORE), ignore=IGNORE)
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights():
    counts = torch.tensor([100.0, 50.0, 850.0])
    balanced = balanced_weights(counts, kind="balanced")
    assert (balanced * counts / counts.sum()).sum().item() == pytest.approx(1)
    torch.testing.assert_close(balanced_weights(counts, kind="median"), torch.tensor([1.0, 2.0, 100 / 850]))
    assert balanced_weights(torch.tensor([0.0, 1e9]), kind="balanced").tolist() == [10, 0.5]
