"""The losses of the embedder: batch-hard triplets, circle loss, and the logits of a cosine classifier.

All take the person ids of a batch of P people x K crops, int64 [B]; each person occurs at least twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CIRCLE_MARGIN, CIRCLE_SCALE = 0.25, 64.0  # Sun 2020, section 4.1
COSINE_SCALE = 30.0  # Wang 2018; large enough that a right cosine of 1 gives a probability near 1
SIMILARITY_TEMPERATURE = 0.1  # of the cosines; the likest few crops of a batch count


def batch_hard_triplet_loss(features: Tensor, person_ids: Tensor, *, margin: float) -> Tensor:
    """Return the mean of max(0, margin + distance to the farthest crop of the same person - to the nearest of another).

    With a margin of 0 the hinge becomes soft, log(1 + exp(...)), and goes on pulling (Hermans 2017, section 2).

    Args:
        features: [B, D], not normalised.
        person_ids: [B]; each person at least twice, at least two people.
        margin: in units of the feature.
    """
    squared = features.pow(2).sum(dim=1)
    squared_distance = squared[:, None] + squared[None] - 2 * features @ features.T
    # The root's slope at zero is infinite: a crop's distance to itself must not reach it.
    distance = squared_distance.clamp(min=1e-6).sqrt()
    same = person_ids[:, None] == person_ids[None]
    farthest_same = distance.masked_fill(~same, 0).amax(dim=1)
    nearest_other = distance.masked_fill(same, float("inf")).amin(dim=1)
    excess = farthest_same - nearest_other
    return (F.relu(margin + excess) if margin else F.softplus(excess)).mean()


def circle_loss(features: Tensor, person_ids: Tensor) -> Tensor:
    """Return the circle loss over all pairs of the batch (Sun 2020, equation 6), as one number of the order of 1.

    It weighs each pair by how far its cosine is from where it should be, and works on what is compared in use.

    Args:
        features: [B, D] after the neck, normalised here.
        person_ids: [B].
    """
    unit = F.normalize(features, dim=1)
    similarity = unit @ unit.T
    upper = torch.ones_like(similarity, dtype=torch.bool).triu(1)
    same = person_ids[:, None] == person_ids[None]
    positive, negative = similarity[same & upper], similarity[~same & upper]
    pull = (1 + CIRCLE_MARGIN - positive.detach()).clamp(min=0) * (positive - (1 - CIRCLE_MARGIN))
    push = (negative.detach() + CIRCLE_MARGIN).clamp(min=0) * (negative - CIRCLE_MARGIN)
    logits = torch.logsumexp(-CIRCLE_SCALE * pull, 0) + torch.logsumexp(CIRCLE_SCALE * push, 0)
    return F.softplus(logits) / CIRCLE_SCALE


def similarity_loss(features: Tensor, targets: Tensor) -> Tensor:
    """Return how far the likeness of a batch's crops is from what teachers find (Passalis 2018, section 3).

    For each crop the others are a distribution, by softmax over cosine similarity; the loss is the mean divergence of
    the student's from the teachers'. Embeddings themselves are not compared: their axes differ from model to model.

    Args:
        features: [B, D] after the neck, normalised here.
        targets: [B, T] of the teachers, normalised here.
    """
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    own, wanted = (
        F.log_softmax((unit @ unit.T / SIMILARITY_TEMPERATURE).masked_fill(itself, -1e4), dim=1)
        for unit in (F.normalize(features, dim=1), F.normalize(targets, dim=1))
    )
    return F.kl_div(own, wanted, log_target=True, reduction="batchmean")


class PeopleClassifier(nn.Module):
    """Logits [B, people] of features [B, D]: linear, or with a margin the scaled cosine that CosFace trains by.

    Needed by the loss alone: it never leaves the checkpoint.
    """

    def __init__(self, dim: int, people: int, *, margin: float = 0.0) -> None:
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.empty(people, dim))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor, person_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits to take the loss of, and those without the margin, to tell who was recognised."""
        if not self.margin:
            logits = F.linear(features, self.weight)
            return logits, logits
        cosine = F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))
        lowered = cosine - self.margin * F.one_hot(person_ids, len(self.weight)).to(cosine.dtype)
        return COSINE_SCALE * lowered, COSINE_SCALE * cosine


class StripeClassifiers(nn.Module):
    """One classifier for each stripe of the feature map: each part alone must tell who it is (Sun 2018, section 3)."""

    def __init__(self, channels: int, stripes: int, people: int) -> None:
        super().__init__()
        self.necks = nn.ModuleList(nn.BatchNorm1d(channels) for _ in range(stripes))
        classifiers = [nn.Linear(channels, people, bias=False) for _ in range(stripes)]
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=0.01)
        self.classifiers = nn.ModuleList(classifiers)

    def forward(self, stripes: Tensor) -> Tensor:
        """Return the logits [B * S, people] of stripes [B, S, C]; all stripes of a crop follow each other."""
        logits = [
            classifier(neck(stripes[:, index]))
            for index, (neck, classifier) in enumerate(zip(self.necks, self.classifiers, strict=True))
        ]
        return torch.stack(logits, dim=1).flatten(0, 1)
