"""Training losses of the anchor detector: focal classification with overlap as the soft target, and GIoU for boxes.

Focal loss: Lin et al. 2017. Its form for soft targets, quality focal loss: Li et al. 2020 ("Generalized Focal Loss",
section 3.1); with a target of 1 it is the focal loss. Predicting the overlap makes the score rank boxes by how well
they fit, which NMS needs. GIoU: Rezatofighi et al. 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from vision.detection.anchors import Anchors, decode_boxes
from vision.detection.assigner import IGNORED, Assigner, assign_atss

BOX_WEIGHT = 2.0  # GIoU against focal, as in ATSS
FOCUSING = 2.0  # beta of quality focal loss, the paper's best


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

    @property
    def total(self) -> Tensor:
        """The weighted sum to minimise."""
        return self.classification + BOX_WEIGHT * self.box


def quality_focal_loss(logits: Tensor, quality: Tensor, *, beta: float = FOCUSING) -> Tensor:
    """Return the summed quality focal loss of logits and soft targets in [0, 1], both of one shape."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (cross_entropy * (quality - logits.sigmoid()).abs().pow(beta)).sum()


def detection_loss(
    logits_BAK: Tensor,  # noqa: N803 - shape suffixes
    deltas_BA4: Tensor,  # noqa: N803
    anchors: Anchors,
    targets: Sequence[DetectionTarget],
    *,
    assign: Assigner = assign_atss,
) -> DetectionLoss:
    """Return the loss of a batch.

    Args:
        logits_BAK: class logits [B, A, K].
        deltas_BA4: box deltas [B, A, 4].
        anchors: the A anchors of this input size.
        targets: one entry an image.
        assign: which anchors learn which object.
    """
    quality = torch.zeros_like(logits_BAK)
    ignored = torch.zeros(logits_BAK.shape[:2], dtype=torch.bool, device=logits_BAK.device)
    box_sum = deltas_BA4.sum() * 0  # keeps the graph when a batch holds no object
    weight_sum = deltas_BA4.new_zeros(())
    positives = 0
    for row, target in enumerate(targets):
        assigned = assign(anchors, target.boxes)
        ignored[row] = assigned == IGNORED
        positive = torch.nonzero(assigned >= 0).squeeze(1)
        if len(positive) == 0:
            continue
        matched = target.boxes[assigned[positive]]
        predicted = decode_boxes(deltas_BA4[row, positive], anchors.boxes[positive])
        overlap = _paired_iou(predicted.detach(), matched)
        quality[row, positive, target.labels[assigned[positive]]] = overlap
        # Boxes that already fit are the ones that will be kept; weighting by score as in GFL favours them.
        weight = logits_BAK[row, positive].detach().sigmoid().max(dim=1).values.clamp(min=0.05)
        box_sum = box_sum + (generalized_box_iou_loss(predicted, matched) * weight).sum()
        weight_sum = weight_sum + weight.sum()
        positives += len(positive)
    if ignored.any():
        logits_BAK, quality = logits_BAK[~ignored], quality[~ignored]
    classification = quality_focal_loss(logits_BAK, quality) / max(positives, 1)
    return DetectionLoss(classification, box_sum / weight_sum.clamp(min=1.0))


def _paired_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """Return IoU [N] of row i with row i of xyxy boxes [N, 4]."""
    size = (torch.minimum(boxes_a[:, 2:], boxes_b[:, 2:]) - torch.maximum(boxes_a[:, :2], boxes_b[:, :2])).clamp(min=0)
    intersection = size.prod(dim=1)
    areas = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(dim=1) + (boxes_b[:, 2:] - boxes_b[:, :2]).prod(dim=1)
    return intersection / (areas - intersection).clamp(min=1e-6)
