"""The embedder's losses against hand-computed values and their limits."""

import math

import pytest
import torch

from vision.training.tasks.embedder_losses import (
    CIRCLE_MARGIN,
    CIRCLE_SCALE,
    COSINE_SCALE,
    PeopleClassifier,
    StripeClassifiers,
    batch_hard_triplet_loss,
    circle_loss,
    similarity_loss,
)

PAIRS = torch.tensor([0, 0, 1, 1])


def test_triplet_loss_by_hand():
    # Person 0 at 0 and 3, person 1 at 4 and 10 on a line.
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    # Farthest same minus nearest other: 3 - 4, 3 - 1, 6 - 1, 6 - 7; plus the margin 0.5, not below 0.
    expected = (0 + 2.5 + 5.5 + 0) / 4
    assert batch_hard_triplet_loss(features, PAIRS, margin=0.5).item() == pytest.approx(expected, abs=1e-3)


def test_soft_margin_by_hand():
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    expected = sum(math.log1p(math.exp(excess)) for excess in (-1, 2, 5, -1)) / 4
    assert batch_hard_triplet_loss(features, PAIRS, margin=0).item() == pytest.approx(expected, abs=1e-3)


def test_triplet_loss_of_well_separated_people_is_zero():
    features = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.0, 0.1]])
    assert batch_hard_triplet_loss(features, torch.tensor([7, 7, 3, 3]), margin=0.3).item() == 0


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_triplet_gradient_is_finite_for_equal_features(margin):
    features = torch.zeros(4, 2, requires_grad=True)
    batch_hard_triplet_loss(features, PAIRS, margin=margin).backward()
    assert torch.isfinite(features.grad).all()


def test_circle_loss_by_hand():
    # One pair of the same person at cosine 0.6, and each with another person at 0 and 0.8.
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    pull = (1 + CIRCLE_MARGIN - 0.6) * (0.6 - (1 - CIRCLE_MARGIN))
    push = [(s + CIRCLE_MARGIN) * (s - CIRCLE_MARGIN) for s in (0.0, 0.8)]
    inside = sum(math.exp(CIRCLE_SCALE * (p - pull)) for p in push)
    expected = math.log1p(inside) / CIRCLE_SCALE
    assert circle_loss(features, torch.tensor([0, 0, 1])).item() == pytest.approx(expected, rel=1e-4)


def test_circle_loss_falls_as_people_come_apart_and_ignores_length():
    person_ids = torch.tensor([0, 0, 1, 1])
    near = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.9, 0.2], [0.9, -0.2]])
    apart = torch.tensor([[1.0, 0.1], [1.0, 0.0], [-0.1, 1.0], [0.0, 1.0]])
    assert circle_loss(apart, person_ids) < circle_loss(near, person_ids)
    torch.testing.assert_close(circle_loss(near * 7, person_ids), circle_loss(near, person_ids))


def test_classifier_without_margin_is_linear():
    torch.manual_seed(0)
    classifier = PeopleClassifier(4, 3)
    features = torch.randn(2, 4)
    logits, again = classifier(features, torch.tensor([0, 2]))
    torch.testing.assert_close(logits, features @ classifier.weight.T)
    assert logits is again


def test_cosine_margin_lowers_the_right_person_alone():
    torch.manual_seed(0)
    classifier = PeopleClassifier(4, 3, margin=0.2)
    lowered, plain = classifier(torch.randn(2, 4), torch.tensor([0, 2]))
    expected = torch.zeros(2, 3)
    expected[0, 0] = expected[1, 2] = -0.2 * COSINE_SCALE
    torch.testing.assert_close(lowered - plain, expected, atol=1e-4, rtol=0)
    assert plain.abs().max() <= COSINE_SCALE


def test_each_stripe_has_its_own_classifier_and_rows_follow_the_crops():
    torch.manual_seed(0)
    heads = StripeClassifiers(6, 2, people=3).eval()
    stripes = torch.randn(4, 2, 6)
    logits = heads(stripes)
    assert logits.shape == (8, 3)
    for crop in range(4):
        for stripe in range(2):
            expected = heads.classifiers[stripe](heads.necks[stripe](stripes[crop : crop + 1, stripe]))
            torch.testing.assert_close(logits[2 * crop + stripe], expected[0])


def test_similarity_loss_is_zero_where_likeness_agrees_whatever_the_axes():
    torch.manual_seed(0)
    features = torch.randn(6, 4)
    turned = torch.linalg.qr(torch.randn(4, 4))[0]
    assert similarity_loss(features, 3 * features @ turned).item() == pytest.approx(0, abs=1e-5)
    assert similarity_loss(features, torch.randn(6, 8)).item() > 0.1


def test_similarity_loss_by_hand():
    # Three crops; to the student the first is as like the second as the third, to the teachers only like the second.
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    def row(own, wanted):
        own, wanted = ([math.exp(10 * s) for s in sims] for sims in (own, wanted))
        p = [w / sum(wanted) for w in wanted]
        return sum(a * math.log(a / (b / sum(own))) for a, b in zip(p, own, strict=True))

    expected = (row((0, 0), (1, 0)) + row((0, -1), (1, 0)) + row((0, -1), (0, 0))) / 3
    assert similarity_loss(student, teacher).item() == pytest.approx(expected, rel=1e-4)
