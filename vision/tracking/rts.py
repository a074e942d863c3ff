"""Rauch-Tung-Striebel smoothing of finished tracks: the tracker's own filter forwards, filterpy's smoother backwards.

A filter knows the past of a box, the smoother its future as well. The forward pass is ``kalman.py`` over all runs at
once; a frame without a seen box is predicted only. Its noise depends on the box's height, so the noise of each step is
kept for the backward pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from filterpy.kalman import rts_smoother

from vision.tracking import kalman
from vision.tracking.interpolation import FrameRuns

Array = npt.NDArray[np.float64]

# One frame: each position moves by its velocity.
TRANSITION = np.eye(8) + np.eye(8, k=4)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothedStates:
    """State of a track in every frame of its runs, in the layout of ``kalman.py``.

    Attributes:
        mean: float64 [S, 8], smoothed.
        covariance: float64 [S, 3, 4], smoothed.
    """

    mean: Array
    covariance: Array


def smooth_rts(runs: FrameRuns, boxes_cxcyah: Array, noise: kalman.Noise) -> SmoothedStates:
    """Return the smoothed states [S] of tracks seen R times at boxes [R, 4] (cx, cy, a, h), heights > 0."""
    mean, covariance, process = filter_forward(runs, boxes_cxcyah, noise)
    transitions = np.broadcast_to(TRANSITION, (int(runs.lengths.max(initial=0)), 8, 8))
    for start, length in zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True):
        if length == 1:
            continue
        rows = slice(start, start + length)
        # filterpy's function asks at each row for the noise of the step that leaves it; ours led to it.
        leaving = diagonal_noise(np.roll(process[rows], -1, axis=0))
        means, spreads, _, _ = rts_smoother(
            mean[rows], dense_covariance(covariance[rows]), transitions[:length], leaving
        )
        mean[rows], covariance[rows] = means, block_terms(spreads)
    return SmoothedStates(mean, covariance)


def filter_forward(runs: FrameRuns, boxes_cxcyah: Array, noise: kalman.Noise) -> tuple[Array, Array, Array]:
    """Return the filtered states of all runs, and the process noise of the step that led to each.

    Returns:
        Mean [S, 8] and covariance terms [S, 3, 4] after the frame's box, or predicted where none was seen; variances
        [S, 8] of the process noise, 0 in the first frame of a run.
    """
    mean = np.empty((len(runs.frames), 8))
    covariance = np.empty((len(mean), 3, 4))
    process = np.zeros((len(mean), 8))
    seen = runs.seen
    # Longest first, so that the runs still going at a step are the first ones.
    order = np.argsort(-runs.lengths, kind="stable")
    starts, lengths = runs.starts[order], runs.lengths[order]
    mean[starts], covariance[starts] = kalman.initiate(boxes_cxcyah[runs.before[starts]], noise)
    for step in range(1, int(lengths.max(initial=0))):
        now = starts[: np.searchsorted(-lengths, -step)] + step
        # Stored as well: the backward pass must find the state from which the prediction was made.
        mean[now - 1] = kalman.stop_collapse(mean[now - 1])
        height = mean[now - 1, 3]
        process[now, :4] = noise.of_position(height, kalman.STD_ASPECT)
        process[now, 4:] = noise.of_velocity(height)
        mean[now], covariance[now] = kalman.predict(mean[now - 1], covariance[now - 1], noise)
        hit = now[seen[now]]
        mean[hit], covariance[hit] = kalman.update(mean[hit], covariance[hit], boxes_cxcyah[runs.before[hit]], noise)
    return mean, covariance, process


def dense_covariance(covariance: Array) -> Array:
    """Return the full matrices [S, 8, 8] of covariance terms [S, 3, 4]."""
    dense = np.zeros((len(covariance), 8, 8))
    position, velocity = np.arange(4), np.arange(4, 8)
    dense[:, position, position] = covariance[:, 0]
    dense[:, position, velocity] = dense[:, velocity, position] = covariance[:, 1]
    dense[:, velocity, velocity] = covariance[:, 2]
    return dense


def block_terms(dense: Array) -> Array:
    """Return the terms [S, 3, 4] (pp, pv, vv) of matrices [S, 8, 8] which couple nothing else."""
    position, velocity = np.arange(4), np.arange(4, 8)
    return np.stack([dense[:, position, position], dense[:, position, velocity], dense[:, velocity, velocity]], axis=1)


def diagonal_noise(variances: Array) -> Array:
    """Return the matrices [S, 8, 8] with variances [S, 8] on their diagonals."""
    return np.asarray(variances[:, :, None] * np.eye(8))
