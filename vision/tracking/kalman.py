"""Constant-velocity Kalman filter of all tracks at once (Wojke 2017, section 2.1); first step of a tracker's frame.

The state of a track is (cx, cy, a, h) and the velocity of each: box centre in pixels, aspect ratio w / h, height in
pixels. The transition F, the noises Q and R and the first covariance P0 never couple two of the four components, so
neither does any later covariance: the 8x8 filter is exactly four 2x2 filters. We keep the three terms of each instead
of 64 numbers, no matrix is ever inverted, and the innovation covariance S is diagonal.

Letters: m mean, z measurement, y innovation, S innovation variance, K gain; pp, pv, vv the position, cross and velocity
terms of a 2x2 covariance. All functions return new arrays; C counts tracks, N boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
State = tuple[Array, Array]
"""Mean [C, 8] (four positions, then four velocities) and covariance terms [C, 3, 4] (pp, pv, vv of each component)."""

# The aspect ratio has no unit, so its noise does not scale with the height. The paper gives no numbers; these are
# the ones in common use since.
STD_ASPECT = 1e-2
STD_ASPECT_VELOCITY = 1e-5
STD_ASPECT_MEASURED = 1e-1

# A first box says little about position and nothing about speed: start with a multiple of the running noise.
INITIAL_POSITION_FACTOR = 2.0
INITIAL_VELOCITY_FACTOR = 10.0

MIN_ASPECT, MIN_HEIGHT = 1e-3, 1e-3
MIN_SIZE = np.array([MIN_ASPECT, MIN_HEIGHT])
HAS_HEIGHT = np.array([1.0, 1.0, 0.0, 1.0])
"""Which components' noise is a multiple of the height: all but the aspect ratio's."""
MIN_UNCERTAINTY = 0.05


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise standard deviations in box heights (Wojke 2017 follows Bewley 2016: uncertainty grows with the box)."""

    position: float = 1 / 20
    velocity: float = 1 / 160

    def of_position(self, height: Array, aspect: float) -> Array:
        """Return variances [C, 4] of a position step for heights [C]; ``aspect`` is the aspect ratio's deviation."""
        return self._variance(height * self.position, aspect)

    def of_velocity(self, height: Array, factor: float = 1.0) -> Array:
        """Return variances [C, 4] of a velocity step, deviations multiplied by ``factor`` except the aspect ratio's."""
        return self._variance(height * (self.velocity * factor), STD_ASPECT_VELOCITY)

    @staticmethod
    def _variance(scaled: Array, aspect: float) -> Array:
        variance: Array = (scaled * scaled)[:, None] * HAS_HEIGHT
        variance[:, 2] = aspect * aspect
        return variance


def initiate(boxes_cxcyah: npt.NDArray[Any], noise: Noise) -> State:
    """Return the state of new tracks at boxes [C, 4], at rest; heights must be > 0."""
    mean = np.zeros((len(boxes_cxcyah), 8))
    mean[:, :4] = boxes_cxcyah
    height = mean[:, 3]
    covariance = np.zeros((len(mean), 3, 4))
    covariance[:, 0] = noise.of_position(height * INITIAL_POSITION_FACTOR, STD_ASPECT)
    covariance[:, 2] = noise.of_velocity(height, INITIAL_VELOCITY_FACTOR)
    return mean, covariance


def predict(mean: Array, covariance: Array, noise: Noise, dt: float = 1.0) -> State:
    """Return the state ``dt`` frames later; the process noise is a random walk, so its variance grows with ``dt``."""
    height = mean[:, 3]
    pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
    predicted = mean.copy()
    predicted[:, :4] += dt * mean[:, 4:]
    spread = np.empty_like(covariance)
    spread[:, 0] = pp + (2 * dt) * pv + (dt * dt) * vv + dt * noise.of_position(height, STD_ASPECT)
    spread[:, 1] = pv + dt * vv
    spread[:, 2] = vv + dt * noise.of_velocity(height)
    return predicted, spread


def stop_collapse(mean: Array, dt: float = 1.0) -> Array:
    """Return means [C, 8] in which no aspect ratio or height would fall to zero within ``dt`` frames.

    A track that shrinks while it is hidden would otherwise end as a box of negative size, which overlaps nothing and
    turns the noise, a multiple of the height, upside down.
    """
    size, velocity = mean[:, 2:4], mean[:, 6:8]
    falls = size + dt * velocity <= MIN_SIZE
    if not falls.any():
        return mean
    held = mean.copy()
    held[:, 6:8][falls] = 0
    return held


def project(
    mean: Array, covariance: Array, noise: Noise, uncertainty: npt.NDArray[np.floating[Any]] | None = None
) -> tuple[Array, Array]:
    """Return the expected measurement [C, 4] and the diagonal [C, 4] of its covariance S.

    ``uncertainty`` [C] scales the measurement noise R of each track; None is 1.
    """
    measured = noise.of_position(mean[:, 3], STD_ASPECT_MEASURED)
    if uncertainty is not None:
        measured *= uncertainty[:, None]
    measured += covariance[:, 0]
    return mean[:, :4], measured


def nsa_uncertainty(scores: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Return the factor [C] of the measurement noise for detections of these scores: 1 - score (Du 2021, NSA).

    A sure detection is believed more. Kept within [MIN_UNCERTAINTY, 1], for scores of foreign detectors may lie outside
    [0, 1].
    """
    return np.asarray(np.clip(1 - scores, MIN_UNCERTAINTY, 1))


def update(
    mean: Array,
    covariance: Array,
    boxes_cxcyah: npt.NDArray[Any],
    noise: Noise,
    uncertainty: npt.NDArray[np.floating[Any]] | None = None,
) -> State:
    """Return the state after measuring box i [C, 4] for track i; ``uncertainty`` as for ``project``."""
    expected, S = project(mean, covariance, noise, uncertainty)
    y = boxes_cxcyah - expected
    pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
    K_position, K_velocity = pp / S, pv / S
    corrected = mean.copy()
    corrected[:, :4] += K_position * y
    corrected[:, 4:] += K_velocity * y
    shrunk = np.empty_like(covariance)
    # S - pp is r > 0, so these two are products of positive numbers: no cancellation can turn pp negative.
    remains = (S - pp) / S
    shrunk[:, 0] = pp * remains
    shrunk[:, 1] = pv * remains
    shrunk[:, 2] = vv - K_velocity * pv
    return corrected, shrunk


def gating_distance(mean: Array, covariance: Array, boxes_cxcyah: npt.NDArray[Any], noise: Noise) -> Array:
    """Return squared Mahalanobis distances [C, N] of boxes [N, 4] from the expected measurement of tracks [C].

    S is diagonal, so the sum of (z - m)^2 / S over the components opens into one matrix product,
    [1/S, -2m/S, sum m^2/S] times [z^2, z, 1]. Both sides are centred first: with coordinates of thousands of pixels and
    deviations of a few, the opened form would otherwise cancel away its digits.
    """
    m, S = project(mean, covariance, noise)
    if not len(m) or not len(boxes_cxcyah):
        return np.zeros((len(m), len(boxes_cxcyah)))
    centre = m.mean(axis=0)
    m = m - centre
    z = boxes_cxcyah - centre
    weight = 1 / S
    track_side = np.concatenate([weight, -2 * m * weight, np.sum(m * m * weight, axis=1, keepdims=True)], axis=1)
    box_side = np.concatenate([z * z, z, np.ones((len(z), 1))], axis=1)
    distance: Array = track_side @ box_side.T
    # Rounding may leave a tiny negative number where the box sits on the prediction.
    return np.maximum(distance, 0, out=distance)


def shifted(mean: Array, shift: Array) -> Array:
    """Return means moved by ``shift`` [2] pixels; a shift changes neither velocities nor covariances."""
    moved = mean.copy()
    moved[:, :2] += shift
    return moved


def warp(mean: Array, covariance: Array, motion: npt.NDArray[np.float64]) -> State:
    """Return the state in the picture to which ``motion`` [2, 3] moves the last one (BoT-SORT, section 3.2).

    Centres move as points, their velocities as vectors; heights grow with the scale of the motion, the root of its
    determinant, and the aspect ratio stays. A rotation would couple x and y, which this filter never does: each keeps
    its own share of the turned variances, and the coupling is left out. For the few degrees between two frames it is
    small.
    """
    linear, shift = motion[:, :2], motion[:, 2]
    scale = float(np.sqrt(abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0])))
    warped = mean.copy()
    warped[:, :2] = mean[:, :2] @ linear.T + shift
    warped[:, 4:6] = mean[:, 4:6] @ linear.T
    warped[:, [3, 7]] *= scale
    spread = covariance.copy()
    spread[:, :, :2] = covariance[:, :, :2] @ (linear * linear).T
    spread[:, :, 3] *= scale * scale
    return warped, spread
