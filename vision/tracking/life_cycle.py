"""When a track begins, ends and is shown (Wojke 2017, section 2.2; Zhang 2022, section 3)."""

from __future__ import annotations

import numpy as np

from vision.geometry.boxes import cxcyah_to_xyxy
from vision.geometry.iou import pairwise_iou
from vision.tracking.assignment import Indices, others
from vision.tracking.association import Found
from vision.tracking.config import TrackerConfig
from vision.tracking.table import TrackTable
from vision.types import Detections, Tracks, TrackState

# Plain numbers: numpy converts an enumeration anew each time.
TENTATIVE, CONFIRMED = int(TrackState.TENTATIVE), int(TrackState.CONFIRMED)


def births(found: Found, matched: Indices, config: TrackerConfig) -> Indices:
    """Return the detections that begin a track: sure ones that no track was ``matched`` with."""
    free = others(len(found), matched)
    if not len(free):
        return free
    free = free[found.scores[free] >= max(config.high_conf, config.birth_conf)]
    if config.birth_overlap < 1 and len(free) and len(matched):
        overlap = pairwise_iou(found.corners[free], found.corners[matched])
        free = free[overlap.max(axis=1) <= config.birth_overlap]
    return free


def ended_rows(table: TrackTable, config: TrackerConfig, *, has_time: bool) -> Indices:
    """Return the rows whose time is over: tentative tracks at the first miss, confirmed ones after their age.

    ``has_time`` tells whether frames have timestamps, without which an age in seconds means nothing.
    """
    missing = table["time_since_update"]
    over = table["unseen_s"] > config.max_age_s if config.max_age_s and has_time else missing > config.max_age
    over |= ~table["confirmed"] & (missing > 0)
    ended: Indices = over.nonzero()[0]
    return ended


def reported_tracks(
    table: TrackTable, detection_index: Indices, detections: Detections, config: TrackerConfig
) -> Tracks:
    """Return the rows that the configuration lets out, ordered by id.

    Args:
        table: all tracks.
        detection_index: row of ``detections`` that each track was matched with, -1 if none.
        detections: of this frame.
        config: what to show.
    """
    shown = table["time_since_update"] <= config.output_coasting
    if not config.output_tentative:
        shown &= table["confirmed"]
    rows = shown.nonzero()[0]
    rows = rows[table["ids"][rows].argsort()]
    boxes, sources = cxcyah_to_xyxy(table["mean"][rows, :4]), detection_index[rows]
    if config.output_boxes == "detected":
        seen = sources >= 0
        boxes[seen] = detections.boxes[sources[seen]]
    return Tracks.trusted(
        boxes=boxes.astype(np.float32),
        ids=table["ids"][rows],
        scores=table["scores"][rows],
        labels=table["labels"][rows],
        states=np.where(table["confirmed"][rows], CONFIRMED, TENTATIVE),
        ages=table["ages"][rows],
        time_since_update=table["time_since_update"][rows],
        detection_index=sources,
    )
