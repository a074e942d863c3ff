"""From network outputs to detections: scores, top-k, boxes, non-maximum suppression. Training's validation and
inference share it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from vision.detection.anchors import decode_boxes
from vision.detection.config import DetectorConfig
from vision.geometry.letterbox import Letterbox
from vision.types import Detections


def decode_detections(
    logits_AK: Tensor,  # noqa: N803 - shape suffixes
    deltas_A4: Tensor,  # noqa: N803
    anchors_A4: Tensor,  # noqa: N803
    letterbox: Letterbox,
    config: DetectorConfig,
) -> Detections:
    """Return the detections of one image in pixels of the original picture, best first.

    Args:
        logits_AK: class logits [A, K] on the CPU.
        deltas_A4: box deltas [A, 4].
        anchors_A4: xyxy anchors [A, 4] in pixels of the network input.
        letterbox: the map that made the network input.
        config: thresholds; ``classes`` is applied by the detector, which knows the names.
    """
    # The threshold moves to logit space, so that only survivors pay for a sigmoid.
    floor = torch.logit(torch.tensor(config.score_floor, dtype=torch.float64))  # -inf for 0, inf for 1
    rows, labels = torch.nonzero(logits_AK >= floor, as_tuple=True)
    scores = logits_AK[rows, labels].float().sigmoid()
    if len(scores) > config.pre_nms:
        scores, top = scores.topk(config.pre_nms)
        rows, labels = rows[top], labels[top]
    boxes = decode_boxes(deltas_A4[rows].float(), anchors_A4[rows])
    # Clipped before NMS: overlap is judged on what the user will see.
    boxes = torch.from_numpy(letterbox.to_source(boxes.numpy()))
    sized = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, scores, labels = boxes[sized], scores[sized], labels[sized]
    groups = torch.zeros_like(labels) if config.class_agnostic else labels
    kept = batched_nms(boxes, scores, groups, config.nms_iou)[: config.max_det]
    return Detections(boxes[kept].numpy(), scores[kept].numpy(), labels[kept].numpy())
