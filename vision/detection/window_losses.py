"""Training losses of the sliding-window detector: which windows show an object, which others take part, and what each
output learns.

OverFeat (Sermanet et al. 2013, section 5) trains on all windows of a picture at once and chooses its negatives on the
fly: some at random and the most offending ones. Objectness learns the overlap of the predicted box with the object
(Redmon et al. 2016, section 2), so that scores rank boxes by how well they fit; boxes learn by GIoU (Rezatofighi et al.
2019) where OverFeat took squared differences.
Legend: B batch, N windows of all aspects, G objects, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss

from vision.detection.anchors import decode_boxes

BACKGROUND, IGNORED = -1, -2
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4  # between them a window is neither object nor background
# An object that no nominal box fits so well still has its best window, down to this overlap: regression does the rest.
BEST_IOU = 0.35
BOX_WEIGHT = 2.0
LEAST_NEGATIVES = 4  # a picture, so that a batch without objects still teaches background


class WindowTarget(NamedTuple):
    """What one training patch holds; a tuple, which data loaders and Lightning move between devices by themselves.

    Attributes:
        boxes: float32 [G, 4] xyxy pixels of the patch; may reach beyond it.
        labels: int64 [G].
        ignored: float32 [C, 4], regions whose windows are neither object nor background (crowds).
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor


@dataclass(frozen=True, slots=True)
class WindowLoss:
    """The three parts of the loss, each divided by the number of windows on objects."""

    objectness: Tensor
    classification: Tensor
    box: Tensor

    @property
    def total(self) -> Tensor:
        """The weighted sum to minimise."""
        return self.objectness + self.classification + BOX_WEIGHT * self.box


def assign_windows(nominal: Tensor, target: WindowTarget) -> Tensor:
    """Return int64 [N]: the row of the object that each window learns, BACKGROUND or IGNORED.

    Args:
        nominal: boxes float32 [N, 4] that the windows stand for.
        target: objects of the same picture, in the same pixels.
    """
    assigned = torch.full((len(nominal),), BACKGROUND, dtype=torch.int64, device=nominal.device)
    if len(target.ignored):
        centres = (nominal[:, None, :2] + nominal[:, None, 2:]) / 2
        inside = (centres > target.ignored[:, :2]) & (centres < target.ignored[:, 2:])
        assigned[inside.all(dim=2).any(dim=1)] = IGNORED
    if len(target.boxes) == 0:
        return assigned
    iou = box_iou(nominal, target.boxes)  # [N, G]
    overlap, row = iou.max(dim=1)
    assigned[overlap >= NEGATIVE_IOU] = IGNORED
    best_overlap, best_window = iou.max(dim=0)
    fits = best_overlap >= BEST_IOU
    assigned[best_window[fits]] = torch.nonzero(fits).squeeze(1)
    return torch.where(overlap >= POSITIVE_IOU, row, assigned)


def choose_negatives(objectness: Tensor, assigned: Tensor, *, count: int, generator: torch.Generator) -> Tensor:
    """Return int64 indices of at most ``count`` background windows: half the highest scores, half at random.

    Args:
        objectness: logits [M] of the windows of a whole batch.
        assigned: int64 [M], see ``assign_windows``.
        count: windows wanted.
        generator: on the CPU; the same state gives the same choice.
    """
    background = torch.nonzero(assigned == BACKGROUND).squeeze(1)
    offending = objectness[background].topk(min(count // 2, len(background))).indices
    shuffled = torch.randperm(len(background), generator=generator)[: count - len(offending)]
    return background[torch.unique(torch.cat([offending, shuffled.to(offending.device)]))]


def window_loss(
    outputs: tuple[Tensor, Tensor, Tensor],
    nominal: Tensor,
    targets: Sequence[WindowTarget],
    *,
    negatives_per_positive: float,
    generator: torch.Generator,
) -> WindowLoss:
    """Return the loss of a batch.

    Args:
        outputs: class logits [B,N,K], objectness logits [B,N] and deltas [B,N,4].
        nominal: boxes float32 [N, 4] that the windows stand for.
        targets: one a picture.
        negatives_per_positive: background windows in the loss for each on an object.
        generator: of the random choice among the background.
    """
    class_logits, objectness, deltas = outputs
    assigned = torch.stack([assign_windows(nominal, target) for target in targets])  # [B, N]
    picture, window = torch.nonzero(assigned >= 0, as_tuple=True)
    positives = max(1, len(picture))
    count = max(round(negatives_per_positive * len(picture)), LEAST_NEGATIVES * len(targets))
    flat = objectness.flatten()
    chosen = choose_negatives(flat.detach(), assigned.flatten(), count=count, generator=generator)
    loss_negative = F.softplus(flat[chosen]).sum()  # cross-entropy against 0
    if len(picture) == 0:
        nothing = 0 * (class_logits.sum() + deltas.sum())  # keeps the graph whole
        return WindowLoss(loss_negative / positives, nothing, nothing)
    objects = assigned[picture, window]
    boxes = torch.stack([targets[p].boxes[o] for p, o in zip(picture.tolist(), objects.tolist(), strict=True)])
    labels = torch.stack([targets[p].labels[o] for p, o in zip(picture.tolist(), objects.tolist(), strict=True)])
    predicted = decode_boxes(deltas[picture, window], nominal[window])
    quality = torch.diagonal(box_iou(predicted.detach(), boxes))
    loss_positive = F.binary_cross_entropy_with_logits(objectness[picture, window], quality, reduction="sum")
    return WindowLoss(
        (loss_positive + loss_negative) / positives,
        F.cross_entropy(class_logits[picture, window], labels),
        generalized_box_iou_loss(predicted, boxes, reduction="mean"),
    )
