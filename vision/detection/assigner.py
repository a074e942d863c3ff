"""Which anchors learn which object: adaptive training sample selection (Zhang et al. 2020, "ATSS", section 3.2,
algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from vision.detection.anchors import Anchors

CANDIDATES_PER_LEVEL = 9  # k in the paper, which finds results flat from 7 to 17


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
        return torch.full((count,), -1, dtype=torch.int64, device=anchors.boxes.device)
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
    return torch.where(best_iou >= 0, best_object, -1)


def _centres_inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Return bool [K, G]: whether centre [K, G, 2] lies strictly inside object g of boxes [G, 4]."""
    margins = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=-1)
    return margins.min(dim=-1).values > 1e-3
