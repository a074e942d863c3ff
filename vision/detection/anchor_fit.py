"""How well anchors fit the objects of a data set: k-means of box sizes with overlap as the distance (Redmon and Farhadi
2017, YOLOv2, section 2, "dimension clusters"), the recall that anchors allow, and shapes that fit better.

Only sizes are compared, as if every object stood centred on an anchor. Everything is deterministic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vision.detection.anchors import AnchorConfig
from vision.types import FloatArray

POSITIVE_IOU = 0.5  # from here on an anchor counts as fitting, as in RetinaNet's and SSD's assignment
ENOUGH_RECALL = 0.9
WORTHWHILE_GAIN = 0.02  # of recall; less is noise of the data
MAX_RATIOS = 3
MAX_ITERATIONS = 100
SCALES = tuple(2 ** (quarter / 4) for quarter in range(17))  # 1 to 16 cells


@dataclass(frozen=True, slots=True)
class AnchorFit:
    """How anchors fit objects.

    Attributes:
        recall: best possible recall: share of the objects with an anchor of IoU >= 0.5.
        mean_iou: mean over the objects of the IoU with the best anchor.
    """

    recall: float
    mean_iou: float


def measure_anchors(sizes_wh: FloatArray, shapes_wh: FloatArray) -> AnchorFit:
    """Return the fit of anchor shapes [M, 2] to object sizes [N, 2], N >= 1, both width and height in pixels."""
    best = size_iou(sizes_wh, shapes_wh).max(axis=1)
    return AnchorFit(float((best >= POSITIVE_IOU).mean()), float(best.mean()))


def anchor_sizes(config: AnchorConfig) -> FloatArray:
    """Return width and height in pixels [levels * shapes, 2] of every anchor shape."""
    return np.array(
        [
            (scale * stride / math.sqrt(ratio), scale * stride * math.sqrt(ratio))
            for stride in config.strides
            for scale, ratio in config.shapes
        ],
        np.float32,
    )


def cluster_sizes(sizes_wh: FloatArray, count: int) -> FloatArray:
    """Return the ``count`` cluster centres [count, 2] of object sizes [N, 2] by k-means with distance 1 - IoU.

    It starts from equal parts of the objects in the order of their area, not from chance.
    """
    order = np.argsort(sizes_wh.prod(axis=1), kind="stable")
    parts = np.array_split(sizes_wh[order], min(count, len(sizes_wh)))
    centres = np.stack([part.mean(axis=0) for part in parts])
    owner = np.full(len(sizes_wh), -1)
    for _ in range(MAX_ITERATIONS):
        nearest = size_iou(sizes_wh, centres).argmax(axis=1)
        if np.array_equal(nearest, owner):
            break
        owner = nearest
        for row in np.unique(owner):  # a centre that lost all its objects stays where it is
            centres[row] = sizes_wh[owner == row].mean(axis=0)
    return np.asarray(centres, np.float32)


def suggest_anchors(sizes_wh: FloatArray, config: AnchorConfig) -> AnchorConfig | None:
    """Return anchors of the same levels that fit the objects better, or None when those of ``config`` do well.

    The fewest ratios that allow a recall of 0.9 are chosen, never fewer than there are, at most 3 or as many as there
    are; each anchor more costs time on every cell.
    """
    present = measure_anchors(sizes_wh, anchor_sizes(config)).recall
    if present >= ENOUGH_RECALL:
        return None
    best, best_recall = None, present + WORTHWHILE_GAIN
    for count in range(len(config.ratios), max(MAX_RATIOS, len(config.ratios)) + 1):
        fitted = _fit_scale(sizes_wh, replace(config, ratios=_typical_ratios(sizes_wh, count), between=False))
        recall = measure_anchors(sizes_wh, anchor_sizes(fitted)).recall
        if recall >= best_recall:
            best, best_recall = fitted, recall + WORTHWHILE_GAIN
        if recall >= ENOUGH_RECALL:
            break
    return best


def size_iou(sizes_wh: FloatArray, others_wh: FloatArray) -> FloatArray:
    """Return the IoU [N, M] of boxes of sizes [N, 2] and [M, 2] with a common centre."""
    common = np.minimum(sizes_wh[:, None], others_wh[None]).prod(axis=2)
    total = sizes_wh.prod(axis=1)[:, None] + others_wh.prod(axis=1)[None] - common
    return np.asarray(common / total, np.float32)


def _fit_scale(sizes_wh: FloatArray, config: AnchorConfig) -> AnchorConfig:
    """Return the configuration with the scale of the largest recall, of equals the largest mean IoU."""

    def quality(scale: float) -> tuple[float, float]:
        fit = measure_anchors(sizes_wh, anchor_sizes(replace(config, scale=scale)))
        return fit.recall, fit.mean_iou

    return replace(config, scale=max((round(scale, 2) for scale in SCALES), key=quality))


def _typical_ratios(sizes_wh: FloatArray, count: int) -> tuple[float, ...]:
    """Return ``count`` ratios height / width: the means of k-means of their logarithms, rounded to 2 digits."""
    logs = np.sort(np.log(sizes_wh[:, 1] / sizes_wh[:, 0]))
    centres = np.array([part.mean() for part in np.array_split(logs, min(count, len(logs)))])
    for _ in range(MAX_ITERATIONS):
        borders = (centres[:-1] + centres[1:]) / 2
        groups = np.split(logs, np.searchsorted(logs, borders))
        pairs = zip(groups, centres, strict=True)
        moved = np.array([group.mean() if len(group) else centre for group, centre in pairs])
        if np.allclose(moved, centres):
            break
        centres = moved
    return tuple(dict.fromkeys(float(np.exp(centre).round(2)) for centre in centres))
