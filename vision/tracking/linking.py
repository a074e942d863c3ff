"""Tracklet linking: one object that was lost for a while and found under a new id gets its first id back.

The idea is StrongSORT's global link (Du 2023, section 3.4), with explicit costs in the place of its learned ones. The
last state of a track is predicted forwards to the first box of a later one, the first state of that backwards to the
last box of the former; both must pass the tracker's gate. Where embeddings are known, they must agree as well. Among
all pairs that pass, the assignment with the least cost is taken, so that a track has one successor at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.tracking import kalman
from vision.tracking.assignment import Indices, assign
from vision.tracking.interpolation import find_runs
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.rts import filter_forward
from vision.types import IntArray

Array = npt.NDArray[np.float64]
Appearance = Mapping[int, npt.NDArray[Any]]
"""Mean unit embedding [D] of tracks by id; tracks may be absent."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackEnds:
    """One end of each of T tracks: its last box in the direction of time in which it is looked at.

    Attributes:
        frames: int64 [T], falling in the other direction of time.
        boxes: float64 [T, 4], cx, cy, a, h.
        mean, covariance: the filter's state there, as in ``kalman.py``; velocities point on beyond the track.
    """

    frames: IntArray
    boxes: Array
    mean: Array
    covariance: Array


def link_ids(
    ids: IntArray,
    frames: IntArray,
    boxes_cxcyah: Array,
    labels: IntArray,
    config: OfflineConfig,
    appearance: Appearance | None = None,
) -> IntArray:
    """Return the ids [R] of seen boxes [R] after linking: those of joined tracks become the earliest one's.

    Tracks are joined only where one ends before the other begins, so an id stays unique in each frame. Rows must be
    sorted by (id, frame); heights must be > 0.
    """
    if not len(ids):
        return ids.copy()
    names, first = np.unique(ids, return_index=True)
    last = np.append(first[1:], len(ids)) - 1
    earlier, later = _candidates(frames[first], frames[last], config.link_max_gap)
    same = labels[last[earlier]] == labels[first[later]]
    earlier, later = earlier[same], later[same]
    noise = kalman.Noise(config.std_weight_position, config.std_weight_velocity)
    costs = _motion_cost(
        _track_ends(ids, frames, boxes_cxcyah, config.link_max_gap, noise),
        _track_ends(ids, frames, boxes_cxcyah, config.link_max_gap, noise, backwards=True),
        (earlier, later),
        noise,
        config,
    )
    looks = _appearance_distance(names, earlier, later, appearance) / max(config.link_max_cosine_distance, 1e-9)
    # Each cost is a share of its own limit. Without an appearance the motion stands alone.
    costs = np.where(np.isnan(looks), costs, np.where(looks <= 1, (costs + looks) / 2, np.inf))
    chosen = assign(earlier, later, costs, 1.0)
    joined = names.copy()
    # In the order of time, so that the third piece of a track finds the id that the second was given.
    for one, other in sorted(
        zip(*(rows.tolist() for rows in chosen), strict=True), key=lambda pair: frames[first[pair[1]]]
    ):
        joined[other] = joined[one]
    return joined[np.searchsorted(names, ids)]


def _candidates(begins: IntArray, ends: IntArray, max_gap: int) -> tuple[Indices, Indices]:
    """Return the pairs [P] (earlier, later) of tracks with at most ``max_gap`` frames between, none overlapping."""
    order = np.argsort(begins, kind="stable")
    low = np.searchsorted(begins[order], ends, side="right")
    high = np.searchsorted(begins[order], ends + max_gap + 1, side="right")
    counts = high - low
    earlier = np.repeat(np.arange(len(begins)), counts)
    offset = np.arange(len(earlier)) - np.repeat(np.cumsum(counts) - counts, counts)
    return earlier, order[np.repeat(low, counts) + offset]


def _track_ends(
    ids: IntArray, frames: IntArray, boxes: Array, max_gap: int, noise: kalman.Noise, *, backwards: bool = False
) -> TrackEnds:
    """Return the filtered end of each track; ``backwards`` runs the filter from the last box to the first."""
    if backwards:
        order = np.lexsort((-frames, ids))
        ids, frames, boxes = ids[order], -frames[order], boxes[order]
    runs = find_runs(ids, frames, max_gap)
    mean, covariance, _ = filter_forward(runs, boxes, noise)
    # The last row of a track is the last of its last run, for every run ends with a seen box.
    ended = np.flatnonzero(np.append(np.diff(ids[runs.before]) != 0, True))
    seen = runs.before[ended]
    return TrackEnds(np.abs(frames[seen]), boxes[seen], mean[ended], covariance[ended])


def _motion_cost(
    tails: TrackEnds, heads: TrackEnds, pairs: tuple[Indices, Indices], noise: kalman.Noise, config: OfflineConfig
) -> Array:
    """Return the cost [P] of pairs in [0, 1]: the worse of the two directions, as a share of the gate; inf outside."""
    earlier, later = pairs
    steps = heads.frames[later] - tails.frames[earlier]
    costs = np.full(len(steps), np.inf)
    for step in np.unique(steps).tolist():
        now = np.flatnonzero(steps == step)
        forwards, ahead = _surprise(tails, earlier[now], heads.boxes[later[now]], step, noise)
        backwards, behind = _surprise(heads, later[now], tails.boxes[earlier[now]], step, noise)
        near = np.maximum(ahead, behind) <= config.link_max_distance
        costs[now[near]] = np.maximum(forwards, backwards)[near] / config.link_gate
    return costs


def _surprise(ends: TrackEnds, rows: Indices, boxes: Array, step: int, noise: kalman.Noise) -> tuple[Array, Array]:
    """Return how far boxes [P, 4] lie from where the tracks are after ``step`` frames.

    Returns:
        Squared Mahalanobis distances [P]; distances of the centres, or of the heights where larger, in heights [P].
    """
    mean = kalman.stop_collapse(ends.mean[rows], step)
    mean, covariance = kalman.predict(mean, ends.covariance[rows], noise, step)
    expected, S = kalman.project(mean, covariance, noise)
    off = boxes - expected
    height = (boxes[:, 3] + ends.boxes[rows, 3]) / 2
    away = np.maximum(np.hypot(off[:, 0], off[:, 1]), np.abs(off[:, 3]))
    return np.sum(off * off / S, axis=1), away / height


def _appearance_distance(names: IntArray, earlier: Indices, later: Indices, appearance: Appearance | None) -> Array:
    """Return the cosine distance [P] of the mean embeddings of pairs, NaN where one of them is unknown."""
    distance = np.full(len(earlier), np.nan)
    known = (
        {row: appearance[name] for row, name in enumerate(names.tolist()) if name in appearance} if appearance else {}
    )
    for pair, (one, other) in enumerate(zip(earlier.tolist(), later.tolist(), strict=True)):
        if one in known and other in known:
            a, b = known[one], known[other]
            distance[pair] = 1 - float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return distance
