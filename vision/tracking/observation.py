"""What observations say beyond the filter's state (OC-SORT: Cao 2023): direction of motion, and the replay of a gap.

A filter that predicts without measurements drifts. The last observed boxes do not: they tell in which direction a track
moved before it was lost, and once it is found again, along which line it must have gone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes
from vision.tracking import kalman
from vision.tracking.assignment import Indices
from vision.tracking.table import DIRECTION_FRAMES, TrackTable

Array = npt.NDArray[np.float64]

# Steps of a replay; longer gaps take longer steps. A line needs no more, and a jump of the frame number must not stall.
MAX_REPLAY_STEPS = 60


def remember(table: TrackTable, rows: Indices, boxes_cxcyah: Boxes) -> None:
    """Store the box [P, 4] that each of ``rows`` was matched with; call it after the correction."""
    past = table["past"][rows]
    past[:, :-1] = past[:, 1:]
    past[:, -1] = boxes_cxcyah[:, :2]
    table["past"][rows] = past
    table["observed"][rows] = boxes_cxcyah
    table["anchor_mean"][rows] = table["mean"][rows]
    table["anchor_covariance"][rows] = table["covariance"][rows]


def begin(table: TrackTable, rows: Indices, boxes_cxcyah: Boxes) -> None:
    """Store the first box of new tracks, as if they had stood there before."""
    table["past"][rows] = np.repeat(boxes_cxcyah[:, None, :2], DIRECTION_FRAMES, axis=1)
    remember(table, rows, boxes_cxcyah)


def warp(table: TrackTable, motion: Array) -> None:
    """Move what is remembered to the picture that ``motion`` [2, 3] leads to."""
    linear, shift = motion[:, :2], motion[:, 2]
    scale = math.sqrt(abs(float(np.linalg.det(linear))))
    table["past"] = table["past"] @ linear.T + shift
    observed = table["observed"]
    observed[:, :2] = observed[:, :2] @ linear.T + shift
    observed[:, 3] *= scale
    table["anchor_mean"], table["anchor_covariance"] = kalman.warp(
        table["anchor_mean"], table["anchor_covariance"], motion
    )


def shift(table: TrackTable, by: Array) -> None:
    """Move what is remembered by ``by`` [2] pixels."""
    table["past"] += by
    table["observed"][:, :2] += by
    table["anchor_mean"][:, :2] += by


def momentum(
    table: TrackTable, rows: Indices, centres: Boxes, scores: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.floating[Any]]:
    """Return the agreement [P] of pairs with the direction of their tracks (OC-SORT, section 3.3), in [-0.5, 0.5].

    0.5 is straight on, -0.5 straight back, both times the detection's score; 0 where either direction is unknown.

    Args:
        table: the tracks.
        rows: track of each pair.
        centres: float64 [P, 2] of the pair's detection.
        scores: [P] of the pair's detection.
    """
    past, observed = table["past"][rows], table["observed"][rows, :2]
    before, after = observed - past[:, 0], centres - observed
    length = np.sqrt((before * before).sum(axis=1) * (after * after).sum(axis=1))
    cosine = np.divide((before * after).sum(axis=1), length, out=np.zeros(len(rows)), where=length > 0)
    return np.asarray((0.5 - np.arccos(np.clip(cosine, -1, 1)) / np.pi) * scores)


def replay(
    table: TrackTable, rows: Indices, boxes_cxcyah: Boxes, gaps: npt.NDArray[np.int64], noise: kalman.Noise, dt: float
) -> None:
    """Replace the states of tracks found again by ones that measured boxes along the gap (OC-SORT, section 3.2).

    The boxes lie on the straight line from the last observed one to the new one. The states end predicted to this
    frame, ready to be corrected.

    Args:
        table: the tracks.
        rows: those found again [P].
        boxes_cxcyah: float64 [P, 4], what each was found as.
        gaps: frames [P] since each was last seen, >= 2.
        noise: the filter's.
        dt: length of one frame in time steps.
    """
    steps = np.minimum(gaps, MAX_REPLAY_STEPS)
    first = table["observed"][rows]
    mean, covariance = table["anchor_mean"][rows], table["anchor_covariance"][rows]
    for count in np.unique(steps):
        chosen = np.flatnonzero(steps == count)
        state = mean[chosen], covariance[chosen]
        # Tracks of one number of steps share it, but not the length of their gaps: take the longest for all.
        stride = float(gaps[chosen].max()) / float(count) * dt
        for step in range(1, count + 1):
            state = kalman.predict(kalman.stop_collapse(state[0], stride), state[1], noise, stride)
            if step < count:
                virtual = first[chosen] + (boxes_cxcyah[chosen] - first[chosen]) * (step / count)
                state = kalman.update(*state, virtual, noise)
        mean[chosen], covariance[chosen] = state
    table["mean"][rows], table["covariance"][rows] = mean, covariance
