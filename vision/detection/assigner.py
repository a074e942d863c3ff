"""Which anchors learn which object: adaptive training sample selection (Zhang et al. 2020, "ATSS", section 3.2,
algorithm 1), or fixed overlap thresholds (Ren et al. 2015, section 3.1.2; Lin et al. 2017b, section 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import box_iou

from vision.detection.anchors import Anchors

CANDIDATES_PER_LEVEL = 9  # k in the paper, which finds results flat from 7 to 17
BACKGROUND, IGNORED = -1, -2

# Maps the anchors of an input size and the objects float32 [G, 4] of one picture to int64 [A]: the row of the object
# that each anchor learns, BACKGROUND, or IGNORED for anchors that take no part in the loss.
Assigner = Callable[[Anchors, Tensor], Tensor]


def assign_atss(anchors: Anchors, boxes: Tensor, *, candidates: int = CANDIDATES_PER_LEVEL) -> Tensor:
    """Return int64 [A]: the row of the object that each anchor learns, or -1 for background.

    For each object the ``candidates`` anchors of each level whose centres lie nearest are taken; of these, anchors
    whose IoU reaches the mean plus the standard deviation of the candidates' IoUs, and whose centre lies inside the
    object, are positive. An anchor claimed twice goes to the object that it overlaps most.

    Args:
        anchors: the anchors of one input size.
        boxes: objects float32 [G, 4] xyxy in pixels of the network input.
        candidates: anchors a level and object.
    """
    count = len(anchors.boxes)
    if len(boxes) == 0:
        return torch.full((count,), BACKGROUND, dtype=torch.int64, device=anchors.boxes.device)
    iou = box_iou(anchors.boxes, boxes)  # [A, G]
    centres = (anchors.boxes[:, :2] + anchors.boxes[:, 2:]) / 2
    box_centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = torch.cdist(centres, box_centres)  # [A, G]

    chosen = []
    start = 0
    for level_count in anchors.counts:
        k = min(candidates, level_count)
        chosen.append(distance[start : start + level_count].topk(k, dim=0, largest=False).indices + start)
        start += level_count
    candidate = torch.cat(chosen)  # [K, G] anchor rows

    candidate_iou = iou.gather(0, candidate)
    # One candidate has no spread; the unbiased estimate would be NaN.
    threshold = candidate_iou.mean(0) + candidate_iou.std(0, correction=min(1, len(candidate) - 1))
    inside = _centres_inside(centres[candidate], boxes)
    positive = (candidate_iou >= threshold) & inside

    claim = torch.full_like(iou, -1.0)
    claim.scatter_(0, candidate, torch.where(positive, candidate_iou, -1.0))
    best_iou, best_object = claim.max(dim=1)
    return torch.where(best_iou >= 0, best_object, BACKGROUND)


def assign_by_iou(anchors: Anchors, boxes: Tensor, *, positive: float = 0.5, negative: float = 0.4) -> Tensor:
    """Return int64 [A]: the row of the object that each anchor learns, -1 for background, -2 to be ignored.

    An anchor learns the object that it overlaps most if their IoU reaches ``positive``, is background below
    ``negative``, and ignored between. So that no object goes unlearnt, the anchors that overlap an object most learn it
    whatever their IoU; an anchor that is the best of several objects goes to the one that it overlaps most.

    Args:
        anchors: the anchors of one input size.
        boxes: objects float32 [G, 4] xyxy in pixels of the network input.
        positive: lowest IoU of a positive; RetinaNet and SSD take 0.5.
        negative: IoU below which an anchor is background; RetinaNet takes 0.4, SSD 0.5 (nothing is ignored).
    """
    if len(boxes) == 0:
        return torch.full((len(anchors.boxes),), BACKGROUND, dtype=torch.int64, device=anchors.boxes.device)
    iou = box_iou(anchors.boxes, boxes)  # [A, G]
    best_iou, best_object = iou.max(dim=1)
    assigned = torch.where(best_iou >= positive, best_object, torch.where(best_iou < negative, BACKGROUND, IGNORED))
    # An object outside all anchors has a best IoU of 0 with every one of them, which would claim the whole picture.
    best_of_object = (iou == iou.max(dim=0).values) & (iou > 0)
    claim, claimed_by = torch.where(best_of_object, iou, -1.0).max(dim=1)
    return torch.where(claim >= 0, claimed_by, assigned)


ASSIGNERS: dict[str, Assigner] = {"atss": assign_atss, "iou": assign_by_iou}


def _centres_inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Return bool [K, G]: whether centre [K, G, 2] lies strictly inside object g of boxes [G, 4]."""
    margins = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=-1)
    return margins.min(dim=-1).values > 1e-3
