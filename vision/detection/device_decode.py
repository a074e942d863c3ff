"""From network outputs to detections on the device, a whole batch at fixed shapes and without waiting for the device.

The rules are those of ``decode.py``. What differs is that nothing here depends on the numbers: a fixed number of
candidates goes through, those that do not count are marked, and the marks leave with the rest. So a batch can be
recorded as a CUDA graph and needs one wait, for its results. torchvision's NMS counts on the host what it keeps, which
is a wait of its own for each batch at least; ``suppress`` does without.

Legend of shape suffixes: B batch, A anchors, K classes, W candidates of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vision.detection.anchors import decode_boxes
from vision.detection.config import DetectorConfig
from vision.geometry.letterbox import Letterbox
from vision.types import Detections, FloatArray, IntArray

# Columns of the settings of a picture, before the K columns that say which classes are wanted.
FLOOR, IOU, PRE_NMS, AGNOSTIC, SCALE_X, SCALE_Y, WIDTH, HEIGHT, SETTINGS = range(9)
# Columns of a result: a box, its score and label, and whether NMS kept it.
SCORE, LABEL, KEPT, COLUMNS = 4, 5, 6, 7
# Rounds of suppression on CUDA, where looking whether more are needed would be a wait. Crowds were seen to need 8.
ROUNDS = 16


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of the device a batch takes for decoding.

    Attributes:
        width: candidates of a picture that go through NMS.
        rounds: rounds of suppression.
    """

    width: int
    rounds: int = ROUNDS


def settings_row(config: DetectorConfig, letterbox: Letterbox, wanted: IntArray | None, num_classes: int) -> FloatArray:
    """Return float32 [SETTINGS + K]: what ``decode_batch`` must know of a picture. A row of zeros finds nothing."""
    row = np.zeros(SETTINGS + num_classes, np.float32)
    conf = config.score_floor
    row[FLOOR] = math.log(conf / (1 - conf)) if 0 < conf < 1 else math.copysign(math.inf, conf - 0.5)
    row[IOU], row[PRE_NMS], row[AGNOSTIC] = config.nms_iou, config.pre_nms, config.class_agnostic
    row[SCALE_X : SCALE_Y + 1] = letterbox.scale_xy
    row[HEIGHT], row[WIDTH] = letterbox.source_hw
    row[SETTINGS:][slice(None) if wanted is None else wanted] = 1
    return row


def decode_batch(
    logits_BAK: Tensor,  # noqa: N803 - shape suffixes
    deltas_BA4: Tensor,  # noqa: N803
    anchors_A4: Tensor,  # noqa: N803
    settings_BS: Tensor,  # noqa: N803
    effort: Effort,
) -> Tensor:
    """Return float32 [B, 1 + W, COLUMNS]: a row about the picture, then its candidates, best first.

    The first row holds the number of candidates there were and whether suppression came to its end (1 or 0); see
    ``read_result``.

    Args:
        logits_BAK, deltas_BA4: the network's outputs, of any float type.
        anchors_A4: xyxy in pixels of the network input.
        settings_BS: of each picture, from ``settings_row``.
        effort: W and the rounds of suppression.
    """
    columns = settings_BS.unbind(dim=1)
    classes = logits_BAK.shape[2]
    logits = logits_BAK.float()
    width = min(effort.width, logits.shape[1] * classes)
    counts = (logits >= settings_BS[:, FLOOR, None, None]) & (settings_BS[:, None, SETTINGS:] > 0)
    ranked, places = logits.masked_fill(~counts, -math.inf).flatten(1).topk(width, dim=1)
    anchor_of, labels = places // classes, places % classes
    rank = torch.arange(places.shape[1], device=places.device)
    valid = (ranked > -math.inf) & (rank < columns[PRE_NMS][:, None])
    deltas = deltas_BA4.float().gather(1, anchor_of[:, :, None].expand(-1, -1, 4))
    boxes = _to_source(decode_boxes(deltas, anchors_A4[anchor_of]), settings_BS)
    valid &= (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
    apart = (labels[:, :, None] != labels[:, None, :]) & (columns[AGNOSTIC] == 0)[:, None, None]
    kept, settled = suppress(boxes, valid, apart, columns[IOU], rounds=effort.rounds)
    rows = torch.cat([boxes, torch.stack([ranked.sigmoid(), labels.float(), kept.float()], dim=2)], dim=2)
    about = torch.zeros_like(rows[:, :1])
    about[:, 0, 0], about[:, 0, 1] = counts.sum(dim=(1, 2)).float(), settled.float()
    return torch.cat([about, rows], dim=1)


def suppress(boxes: Tensor, valid: Tensor, apart: Tensor, iou: Tensor, *, rounds: int) -> tuple[Tensor, Tensor]:
    """Return which boxes greedy NMS keeps, bool [B, W], and for which pictures that is certain, bool [B].

    A box is kept if no kept box before it overlaps it. That has one solution, which repeating the rule from "all are
    kept" approaches from both sides: each round settles what the boxes settled so far decide. A round that changes
    nothing proves the solution. W rounds always suffice; real pictures need a few.

    Args:
        boxes: float32 [B, W, 4] xyxy, best first.
        valid: bool [B, W], boxes that take part.
        apart: bool [B, W, W], pairs that never suppress each other.
        iou: float32 [B], overlap above which the later box goes.
        rounds: at least 2. On the CPU it stops as soon as nothing changes.
    """
    corner = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    sides = (torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:]) - corner).clamp_(min=0)
    shared = sides[..., 0] * sides[..., 1]
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    above = shared / (area[:, :, None] + area[:, None, :] - shared) > iou[:, None, None]
    # suppresses[b, i, j]: if box i is kept, box j is not.
    suppresses = (above & ~apart & valid[:, :, None]).triu(diagonal=1)
    kept = before = valid
    for _ in range(rounds):
        before, kept = kept, valid & ~(suppresses & kept[:, :, None]).any(dim=1)
        if kept.device.type == "cpu" and torch.equal(before, kept):
            break
    return kept, (before == kept).all(dim=1)


def needed_width(results: Sequence[FloatArray], configs: Sequence[DetectorConfig]) -> int:
    """Return the candidates of the fullest picture, of results [1 + W, COLUMNS]; each as many as its config admits."""
    return max(min(int(result[0, 0]), config.pre_nms) for result, config in zip(results, configs, strict=True))


def needed_effort(results: Sequence[FloatArray], configs: Sequence[DetectorConfig], effort: Effort) -> Effort | None:
    """Return the effort with which results of ``decode_batch`` [1 + W, COLUMNS] would be complete; None if they are."""
    needed = needed_width(results, configs)
    settled = all(result[0, 1] for result in results)
    if needed <= effort.width and settled:
        return None
    width = max(effort.width, power_of_two(needed))
    return Effort(width, effort.rounds if settled else width)


def read_result(result: FloatArray, config: DetectorConfig) -> Detections:
    """Return the detections of one picture, best first, of a result float32 [1 + W, COLUMNS]."""
    rows = result[1:]
    rows = rows[rows[:, KEPT] > 0][: config.max_det]
    # Arrays of their own: the result may be a buffer that the next batch is written into.
    return Detections(rows[:, :4].copy(), rows[:, SCORE].copy(), rows[:, LABEL].astype(np.int64))


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least ``number``.

    >>> [power_of_two(number) for number in (0, 1, 5, 256, 257)]
    [1, 1, 8, 256, 512]
    """
    return 1 << max(number - 1, 0).bit_length()


def _to_source(boxes_BW4: Tensor, settings_BS: Tensor) -> Tensor:  # noqa: N803
    """Return boxes of the network input in pixels of the original pictures, clipped to them."""
    # Rows of zeros (unused places of a batch) have no scale; what they give is marked as not valid.
    scale = settings_BS[:, None, SCALE_X : SCALE_Y + 1].repeat(1, 1, 2).clamp(min=torch.finfo(torch.float32).tiny)
    limit = settings_BS[:, None, WIDTH : HEIGHT + 1].repeat(1, 1, 2)
    return torch.minimum((boxes_BW4 / scale).clamp(min=0), limit)
