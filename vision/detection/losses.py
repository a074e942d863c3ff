"""Training losses of the anchor detector: quality focal loss with GIoU, and those of the papers of the other families.

- "qfl", the default: quality focal loss (Li et al. 2020, "Generalized Focal Loss", section 3.1), the form of the focal
  loss for soft targets. Predicting the overlap makes the score rank boxes by how well they fit, which NMS needs. Boxes
  by GIoU (Rezatofighi et al. 2019).
- "focal": RetinaNet's (Lin et al. 2017b, sections 3 and 4.1): focal loss, smooth L1 on the deltas.
- "multibox": SSD's (Liu et al. 2016, section 2.2): the hardest negatives, three for each positive, and smooth L1. Its
  softmax over classes and background is replaced by one logistic score a class, so that all families decode alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from vision.detection.anchors import Anchors, decode_boxes, encode_boxes
from vision.detection.assigner import IGNORED, Assigner, assign_atss

BOX_WEIGHT = 2.0  # GIoU against quality focal loss, as in ATSS
FOCUSING = 2.0  # beta of quality focal loss, the paper's best
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0  # Lin 2017b, table 1
SMOOTH_L1_BETA = 1 / 9  # where smooth L1 turns linear, in deltas; RetinaNet's published training has it
NEGATIVES_PER_POSITIVE = 3  # Liu 2016, section 2.2
VARIANCES = (0.1, 0.1, 0.2, 0.2)  # SSD divides deltas by these, which weights them in its loss


class DetectionTarget(NamedTuple):
    """What one training image holds; a tuple, which data loaders and Lightning move between devices by themselves.

    Attributes:
        boxes: float32 [G, 4] xyxy pixels of the network input, positive size.
        labels: int64 [G].
    """

    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class DetectionLoss:
    """The two parts of the loss, each already divided by the number of positives."""

    classification: Tensor
    box: Tensor
    box_weight: float = BOX_WEIGHT

    @property
    def total(self) -> Tensor:
        """The weighted sum to minimise."""
        return self.classification + self.box_weight * self.box


@dataclass(frozen=True, slots=True)
class Matches:
    """What the anchors of a batch shall learn; P positives in the order of their rows.

    Attributes:
        positive: bool [B, A].
        considered: bool [B, A], False for anchors that take no part.
        anchors: xyxy [P, 4] of the positives.
        boxes: xyxy [P, 4] that they shall predict.
        labels: int64 [P].
    """

    positive: Tensor
    considered: Tensor
    anchors: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def spread(self, values: Tensor, shape: torch.Size) -> Tensor:
        """Return zeros of ``shape`` [B, A, K] with ``values`` [P] at the positives' own classes."""
        spread = values.new_zeros(shape)
        rows, columns = self.positive.nonzero(as_tuple=True)
        spread[rows, columns, self.labels] = values
        return spread


def detection_loss(
    logits_BAK: Tensor,  # noqa: N803 - shape suffixes
    deltas_BA4: Tensor,  # noqa: N803
    anchors: Anchors,
    targets: Sequence[DetectionTarget],
    *,
    assign: Assigner = assign_atss,
    loss: str = "qfl",
) -> DetectionLoss:
    """Return the loss of a batch.

    Args:
        logits_BAK: class logits [B, A, K].
        deltas_BA4: box deltas [B, A, 4].
        anchors: the A anchors of this input size.
        targets: one entry an image.
        assign: which anchors learn which object.
        loss: key of ``LOSSES``.
    """
    return LOSSES[loss](logits_BAK, deltas_BA4, match(anchors, targets, assign))


def match(anchors: Anchors, targets: Sequence[DetectionTarget], assign: Assigner) -> Matches:
    """Return what the anchors of a batch shall learn; ``targets`` has one entry an image."""
    assigned = torch.stack([assign(anchors, target.boxes) for target in targets])  # [B, A]
    positive = assigned >= 0
    rows = [assigned[row, positive[row]] for row in range(len(targets))]
    return Matches(
        positive,
        assigned != IGNORED,
        anchors.boxes.expand(len(targets), -1, 4)[positive],
        torch.cat([target.boxes[row] for target, row in zip(targets, rows, strict=True)]),
        torch.cat([target.labels[row] for target, row in zip(targets, rows, strict=True)]),
    )


def quality_focal_loss(logits: Tensor, quality: Tensor, *, beta: float = FOCUSING) -> Tensor:
    """Return the summed quality focal loss of logits and soft targets in [0, 1], both of one shape."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (cross_entropy * (quality - logits.sigmoid()).abs().pow(beta)).sum()


def quality_loss(logits: Tensor, deltas: Tensor, matches: Matches) -> DetectionLoss:
    """Return quality focal loss and GIoU loss of logits [B, A, K] and deltas [B, A, 4]."""
    predicted = decode_boxes(deltas[matches.positive], matches.anchors)
    quality = matches.spread(_paired_iou(predicted.detach(), matches.boxes), logits.shape)
    # Boxes that already fit are the ones that will be kept; weighting by score as in GFL favours them.
    weight = logits[matches.positive].detach().sigmoid().max(dim=1).values.clamp(min=0.05)
    box = (generalized_box_iou_loss(predicted, matches.boxes) * weight).sum() / weight.sum().clamp(min=1.0)
    classification = quality_focal_loss(*_considered(logits, quality, matches)) / max(len(matches), 1)
    return DetectionLoss(classification, box)


def focal_loss(logits: Tensor, deltas: Tensor, matches: Matches) -> DetectionLoss:
    """Return the focal loss and smooth L1 of logits [B, A, K] and deltas [B, A, 4]."""
    wanted = matches.spread(torch.ones_like(matches.labels, dtype=logits.dtype), logits.shape)
    classification = sigmoid_focal_loss(
        *_considered(logits, wanted, matches), alpha=FOCAL_ALPHA, gamma=FOCAL_GAMMA, reduction="sum"
    )
    box = F.smooth_l1_loss(
        deltas[matches.positive], encode_boxes(matches.boxes, matches.anchors), beta=SMOOTH_L1_BETA, reduction="sum"
    )
    positives = max(len(matches), 1)
    return DetectionLoss(classification / positives, box / positives, box_weight=1.0)


def multibox_loss(logits: Tensor, deltas: Tensor, matches: Matches) -> DetectionLoss:
    """Return SSD's loss of logits [B, A, K] and deltas [B, A, 4].

    A picture without objects still gives three negatives: background pictures are there to teach.
    """
    wanted = matches.spread(torch.ones_like(matches.labels, dtype=logits.dtype), logits.shape)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(dim=2)  # [B, A]
    counts = NEGATIVES_PER_POSITIVE * matches.positive.sum(dim=1).clamp(min=1)
    negative = matches.considered & ~matches.positive
    # The rank of each anchor among the negatives of its picture, hardest first.
    hardness = cross_entropy.detach().masked_fill(~negative, -1.0)
    rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
    kept = matches.positive | (negative & (rank < counts[:, None]))
    variances = deltas.new_tensor(VARIANCES)
    box = F.smooth_l1_loss(
        deltas[matches.positive] / variances,
        encode_boxes(matches.boxes, matches.anchors) / variances,
        reduction="sum",
    )
    positives = max(len(matches), 1)
    return DetectionLoss(cross_entropy[kept].sum() / positives, box / positives, box_weight=1.0)


LOSSES: dict[str, Callable[[Tensor, Tensor, Matches], DetectionLoss]] = {
    "qfl": quality_loss,
    "focal": focal_loss,
    "multibox": multibox_loss,
}


def _considered(logits: Tensor, wanted: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
    """Return logits and targets without the ignored anchors; as they are where there are none, which saves a copy."""
    if bool(matches.considered.all()):
        return logits, wanted
    return logits[matches.considered], wanted[matches.considered]


def _paired_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Return IoU [N] of row i with row i of xyxy boxes [N, 4]."""
    size = (torch.minimum(boxes_a[:, 2:], boxes_b[:, 2:]) - torch.maximum(boxes_a[:, :2], boxes_b[:, :2])).clamp(min=0)
    intersection = size.prod(dim=1)
    areas = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1) + (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return intersection / (areas - intersection).clamp(min=1e-6)
