"""Gaussian-smoothed interpolation: a track as a Gaussian process over its frames (Du 2023, StrongSORT, section 3.4).

The paper gives the kernel, exp(-(t - t')^2 / (2 lambda^2)), and the length scale lambda = tau log(tau^3 / l) of a track
of l frames. What it leaves open is chosen here. The process describes what a straight line in time does not: prior mean
is the least squares line, prior variance what the boxes deviate from it. The noise is read off the track itself, from
how much neighbouring boxes jump. A long track is cut into windows that overlap, so the cost is linear in its length.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from vision.tracking.interpolation import FrameRuns
from vision.types import IntArray

Array = npt.NDArray[np.float64]

WINDOW = 256
"""Frames that are solved at once. The length scale there is 10 log(1000 / 256) = 14 frames."""

OVERLAP = 96
"""Frames that two windows share, several length scales: what one knows of the other's side no longer matters."""

NORMAL_MEDIAN = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""

LEAST_NOISE = 1e-6
"""Least share of noise in the variance: a smooth kernel over many frames is singular without any."""


def length_scale(length: int, tau: float) -> float:
    """Return lambda in frames for a track of ``length`` frames: the shorter, the stiffer; at least 1.

    >>> round(length_scale(100, 10.0), 2)
    23.03
    """
    return max(tau * math.log(tau**3 / length), 1.0)


def smooth_gaussian(runs: FrameRuns, values: Array, tau: float) -> Array:
    """Return the regressed values float64 [S, K] in every frame of the runs, for seen values [R, K]."""
    smoothed = np.empty((len(runs.frames), values.shape[1]))
    for start, length in zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True):
        rows = slice(start, start + length)
        seen = runs.before[rows][runs.seen[rows]]
        at = runs.frames[rows]
        smoothed[rows] = _regress_windows(at[runs.seen[rows]], values[seen], at, tau)
    return smoothed


def measurement_noise(frames: IntArray, values: Array) -> Array:
    """Return the standard deviation [K] of the noise in values [N, K], from second differences of consecutive frames.

    A steady motion cancels out of them, and white noise of variance v leaves 6 v (weights 1, -2, 1). The median keeps
    single jumps out. 0 where no three frames follow each other.
    """
    consecutive = (frames[2:] - frames[:-2]) == 2
    if not consecutive.any():
        return np.zeros(values.shape[1])
    second = (values[2:] - 2 * values[1:-1] + values[:-2])[consecutive]
    return np.asarray(NORMAL_MEDIAN * np.median(np.abs(second), axis=0) / math.sqrt(6))


def _regress_windows(frames: IntArray, values: Array, at: IntArray, tau: float) -> Array:
    """Return the regression of one run at frames ``at``, windows faded into each other where they overlap."""
    noise = measurement_noise(frames, values)
    if len(at) <= WINDOW:
        return regress(frames, values, noise, at, length_scale(len(at), tau))
    total = np.zeros((len(at), values.shape[1]))
    weights = np.zeros((len(at), 1))
    scale = length_scale(WINDOW, tau)
    for first in range(0, len(at) - OVERLAP, WINDOW - OVERLAP):
        window = at[first : first + WINDOW]
        inside = np.searchsorted(frames, [window[0], window[-1] + 1])
        # One seen box beyond each side: a window within a single long gap would otherwise hold none.
        rows = slice(max(int(inside[0]) - 1, 0), int(inside[1]) + 1)
        # A ramp up and down; what lies outside of the overlaps is divided by its own weight.
        position = np.arange(len(window)) + 1.0
        weight = np.minimum(position, position[::-1])[:, None].clip(max=OVERLAP)
        total[first : first + WINDOW] += weight * regress(frames[rows], values[rows], noise, window, scale)
        weights[first : first + WINDOW] += weight
    return total / weights


def regress(frames: IntArray, values: Array, noise: Array, at: IntArray, scale: float) -> Array:
    """Return the posterior mean [A, K] at frames ``at`` [A] of values [N, K] seen in ``frames`` [N], N >= 1.

    Args:
        frames: int64 [N], rising.
        values: float64 [N, K], K independent processes.
        noise: float64 [K], standard deviation of the noise in each.
        at: int64 [A].
        scale: length scale in frames, > 0.

    Cost O(N^3), once for all processes.
    """
    if len(frames) == 1:
        return np.repeat(values, len(at), axis=0)
    centre = frames.mean()
    line = np.stack([np.ones(len(frames)), frames - centre], axis=1)
    trend, *_ = np.linalg.lstsq(line, values, rcond=None)
    deviation = values - line @ trend
    variance = np.mean(deviation * deviation, axis=0)
    # The kernel's eigenvectors are common to all processes; each has its own share of noise on the eigenvalues. On a
    # straight line nothing deviates, and the line is the answer.
    share = np.divide(noise * noise, variance, out=np.ones(len(noise)), where=variance > 0).clip(min=LEAST_NOISE)
    eigenvalues, vectors = eigh(_kernel(frames, frames, scale))
    weights = vectors @ ((vectors.T @ deviation) / (eigenvalues.clip(min=0)[:, None] + share))
    made: Array = np.stack([np.ones(len(at)), at - centre], axis=1) @ trend
    return np.asarray(made + _kernel(at, frames, scale) @ weights)


def _kernel(a: IntArray, b: IntArray, scale: float) -> Array:
    """Return the [A, B] correlation of frames."""
    distance = (a[:, None] - b[None, :]) / scale
    return np.asarray(np.exp(-0.5 * distance * distance))
