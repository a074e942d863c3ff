"""Which detections need no second look: they lie where one track was going, and nothing else is near.

Appearance decides between rivals. Where there are none it only keeps the gallery fresh, and computing it is what a
crowded frame costs most of its time for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes, cxcyah_to_xyxy
from vision.tracking.cost import labels_agree, overlapping, paired_iou
from vision.tracking.gallery import Gallery
from vision.tracking.table import TrackTable
from vision.types import Detections

SURE_IOU = 0.5
"""Least overlap of a detection with where its track was going: less may be another person in the same place."""


RIVAL_IOU = 0.1
"""Overlap from which a box may be a rival."""


def undisputed(
    table: TrackTable, gallery: Gallery, detections: Detections, *, every: int, per_class: bool
) -> npt.NDArray[np.bool_]:
    """Return which detections [N] of the next frame need no embedding.

    Their box touches that of one track alone, which touches no other detection, was seen in the last frame, and has
    been looked at before. Each track's turn to be looked at all the same comes every ``every`` matches; the ids spread
    the turns over the frames.

    Args:
        table: tracks as of the last frame; the next is taken to be one step away, the camera to stand still.
        gallery: what is remembered of them.
        detections: of the next frame.
        every: >= 1; at 1 none is left out.
        per_class: whether only detections with the track's label may continue it.
    """
    mean = table["mean"]
    predicted = cxcyah_to_xyxy(mean[:, :4] + mean[:, 4:8])
    corners: Boxes = detections.boxes.astype(np.float64)
    touching = overlapping(predicted, corners)
    i, j = touching.nonzero()
    touching[i, j] = paired_iou(predicted[i], corners[j]) >= RIVAL_IOU
    alone = touching.sum(axis=0) == 1
    rows = touching.argmax(axis=0)
    alone &= touching.sum(axis=1)[rows] == 1
    alone &= table["confirmed"][rows] & (table["time_since_update"][rows] == 0) & (gallery.written[rows] > 0)
    alone &= (table["hits"] + table["ids"])[rows] % every != 0
    alone &= paired_iou(predicted[rows], corners) >= SURE_IOU
    if per_class:
        agree = labels_agree(table["labels"], detections.labels)
        if agree is not None:
            alone &= agree[rows, np.arange(len(rows))]
    return np.asarray(alone)
