"""Which detection continues which track in one frame: the matching cascade, then overlap (Wojke 2017, section 2.3)."""

from __future__ import annotations

import numpy as np

from vision.geometry.boxes import Boxes, cxcyah_to_xyxy
from vision.geometry.iou import pairwise_iou
from vision.tracking import kalman
from vision.tracking.assignment import Costs, Indices, Matches, assign, match_cascade, others
from vision.tracking.config import TrackerConfig
from vision.tracking.cost import BoolMatrix, appearance_cost, iou_cost, labels_agree
from vision.tracking.gallery import Gallery
from vision.tracking.table import TrackTable
from vision.types import FloatArray, IntArray


def associate(
    table: TrackTable,
    gallery: Gallery | None,
    boxes_cxcyah: Boxes,
    labels: IntArray,
    embeddings: FloatArray | None,
    config: TrackerConfig,
    noise: kalman.Noise,
) -> Matches:
    """Return matched track rows and detections; changes nothing.

    Args:
        table: all tracks, predicted to this frame, so that a track seen in the last one has time_since_update 1.
        gallery: their embeddings, or None as long as there were none.
        boxes_cxcyah: float64 [N, 4] detections with heights > 0.
        labels: int64 [N].
        embeddings: float32 [N, D] unit norm, or None to match by overlap in both stages.
        config: gates and limits.
        noise: the filter's, for the motion gate.
    """
    # One comparison for both stages; None when every pair may match.
    compatible = labels_agree(table["labels"], labels) if config.per_class else None
    predicted, corners = cxcyah_to_xyxy(table["mean"][:, :4]), cxcyah_to_xyxy(boxes_cxcyah)
    limit = config.max_iou_distance if embeddings is None else config.max_cosine_distance

    def cost_of(rows: Indices, columns: Indices) -> Costs:
        if embeddings is None or gallery is None:
            return iou_cost(predicted[rows], corners[columns])
        return appearance_cost(gallery, rows, columns, embeddings, limit)

    rows, columns = gated_pairs(table, boxes_cxcyah, compatible, config.gate, noise)
    rows, columns = match_cascade(rows, columns, table["time_since_update"][rows], cost_of, limit)

    is_open = ~table["confirmed"] | (table["time_since_update"] == 1)
    if embeddings is not None and gallery is not None:
        # A track born in a frame without embeddings has no appearance to compare; overlap is all it has.
        is_open |= gallery.written[: len(table)] == 0
    is_open[rows] = False
    late = overlapping_pairs(np.flatnonzero(is_open), others(len(corners), columns), predicted, corners, compatible)
    late_rows, late_columns = assign(*late, config.max_iou_distance)
    return np.concatenate([rows, late_rows]), np.concatenate([columns, late_columns])


def gated_pairs(
    table: TrackTable, boxes_cxcyah: Boxes, compatible: BoolMatrix | None, gate: float, noise: kalman.Noise
) -> tuple[Indices, Indices]:
    """Return rows [P] (sorted) and columns [P] of confirmed tracks with detections inside their motion gate."""
    confirmed = np.flatnonzero(table["confirmed"])
    mean, covariance = table["mean"][confirmed], table["covariance"][confirmed]
    possible = kalman.gating_distance(mean, covariance, boxes_cxcyah, noise) <= gate
    if compatible is not None:
        possible &= compatible[confirmed]
    order, columns = np.nonzero(possible)
    return confirmed[order], columns


def overlapping_pairs(
    rows: Indices, columns: Indices, predicted: Boxes, corners: Boxes, compatible: BoolMatrix | None
) -> tuple[Indices, Indices, Costs]:
    """Return rows [P], columns [P] and costs 1 - IoU [P] of the pairs that overlap at all."""
    overlap = pairwise_iou(predicted[rows], corners[columns])
    possible = overlap > 0
    if compatible is not None:
        possible &= compatible[np.ix_(rows, columns)]
    i, j = np.nonzero(possible)
    return rows[i], columns[j], 1 - overlap[i, j]
