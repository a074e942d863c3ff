"""The four 2x2 filters against filterpy's general Kalman filter with the full 8x8 matrices."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.tracking import kalman

NOISE = kalman.Noise()
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def full_covariance(terms: np.ndarray) -> np.ndarray:
    """Return the 8x8 matrix of covariance terms [3, 4]."""
    P = np.zeros((8, 8))
    index = np.arange(4)
    P[index, index], P[index + 4, index + 4] = terms[0], terms[2]
    P[index, index + 4] = P[index + 4, index] = terms[1]
    return P


def reference_filter(box: np.ndarray) -> KalmanFilter:
    reference = KalmanFilter(dim_x=8, dim_z=4)
    height = box[3]
    reference.x = np.concatenate([box, np.zeros(4)])
    reference.H = np.eye(4, 8)
    position, velocity = height / 20, height / 160
    deviations = [2 * position] * 2 + [1e-2, 2 * position] + [10 * velocity] * 2 + [1e-5, 10 * velocity]
    reference.P = np.diag(np.square(deviations))
    return reference


def reference_predict(reference: KalmanFilter, dt: float) -> None:
    position, velocity = reference.x[3] / 20, reference.x[3] / 160
    deviations = [position, position, 1e-2, position, velocity, velocity, 1e-5, velocity]
    reference.predict(F=np.eye(8) + dt * np.eye(8, k=4), Q=dt * np.diag(np.square(deviations)))


def measurement_noise(reference: KalmanFilter) -> np.ndarray:
    position = reference.x[3] / 20
    return np.diag(np.square([position, position, 1e-1, position]))


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    return np.stack(
        [
            rng.uniform(0, 4000, count),
            rng.uniform(0, 2000, count),
            rng.uniform(0.2, 3, count),
            rng.uniform(10, 400, count),
        ],
        axis=1,
    )


def check_sequence(seed: int, tracks: int, frames: int, dt: float) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, tracks)
    mean, covariance = kalman.initiate(boxes, NOISE)
    references = [reference_filter(box) for box in boxes]
    for _ in range(frames):
        mean, covariance = kalman.predict(mean, covariance, NOISE, dt)
        for reference in references:
            reference_predict(reference, dt)
        measured = np.flatnonzero(rng.random(tracks) < 0.7)
        seen = boxes[measured] + rng.normal(0, 0.02, (len(measured), 4)) * boxes[measured]
        expected, S = kalman.project(mean, covariance, NOISE)
        distances = kalman.gating_distance(mean, covariance, seen, NOISE)
        for j, track in enumerate(measured):
            reference = references[track]
            R = measurement_noise(reference)
            innovation = seen[j] - reference.x[:4]
            full_S = reference.P[:4, :4] + R
            np.testing.assert_allclose(expected[track], reference.x[:4], **TOLERANCE)
            np.testing.assert_allclose(np.diag(S[track]), full_S, **TOLERANCE)
            np.testing.assert_allclose(
                distances[track, j], innovation @ np.linalg.solve(full_S, innovation), rtol=1e-7, atol=1e-6
            )
            reference.update(seen[j], R=R)
        mean[measured], covariance[measured] = kalman.update(mean[measured], covariance[measured], seen, NOISE)
        for track, reference in enumerate(references):
            np.testing.assert_allclose(mean[track], reference.x, **TOLERANCE)
            np.testing.assert_allclose(full_covariance(covariance[track]), reference.P, **TOLERANCE)
            assert np.linalg.eigvalsh(full_covariance(covariance[track])).min() > 0


@pytest.mark.parametrize("dt", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_filterpy_over_a_sequence(seed: int, dt: float) -> None:
    check_sequence(seed, tracks=6, frames=40, dt=dt)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dt=st.floats(0.1, 5))
def test_agrees_with_filterpy_for_any_seed(seed: int, dt: float) -> None:
    check_sequence(seed, tracks=3, frames=12, dt=dt)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.lists(st.booleans(), min_size=1, max_size=60))
def test_covariance_stays_positive_definite(seed: int, steps: list[bool]) -> None:
    boxes = random_boxes(np.random.default_rng(seed), 4)
    mean, covariance = kalman.initiate(boxes, NOISE)
    for measured in steps:
        mean, covariance = kalman.predict(mean, covariance, NOISE)
        if measured:
            mean, covariance = kalman.update(mean, covariance, boxes, NOISE)
        pp, pv, vv = covariance[:, 0], covariance[:, 1], covariance[:, 2]
        assert (pp > 0).all()
        assert (vv > 0).all()
        assert (pp * vv > pv * pv).all()


def test_gate_keeps_its_digits_far_from_the_origin() -> None:
    boxes = np.array([[1e5, 1e5, 0.4, 20.0], [1e5 + 3, 1e5 - 2, 0.41, 21.0]])
    mean, covariance = kalman.initiate(boxes, NOISE)
    m, S = kalman.project(mean, covariance, NOISE)
    direct = ((boxes[None] - m[:, None]) ** 2 / S[:, None]).sum(axis=2)
    np.testing.assert_allclose(kalman.gating_distance(mean, covariance, boxes, NOISE), direct, rtol=1e-9, atol=1e-9)


def test_functions_leave_their_arguments_alone() -> None:
    mean, covariance = kalman.initiate(np.array([[10.0, 10, 1, 20]]), NOISE)
    before = mean.copy(), covariance.copy()
    kalman.predict(mean, covariance, NOISE)
    kalman.update(mean, covariance, np.array([[12.0, 9, 1, 21]]), NOISE)
    kalman.gating_distance(mean, covariance, np.array([[12.0, 9, 1, 21]]), NOISE)
    np.testing.assert_array_equal(mean, before[0])
    np.testing.assert_array_equal(covariance, before[1])


def test_stop_collapse_holds_a_shrinking_box_and_nothing_else() -> None:
    mean = np.array([[0.0, 0, 1, 5, 1, 1, 0, -6], [0, 0, 1, 50, 1, 1, 0, -6]])
    held = kalman.stop_collapse(mean)
    np.testing.assert_array_equal(held[0], [0, 0, 1, 5, 1, 1, 0, 0])
    np.testing.assert_array_equal(held[1], mean[1])
    assert mean[0, 7] == -6


def test_no_tracks_and_no_boxes() -> None:
    mean, covariance = kalman.initiate(np.zeros((0, 4)), NOISE)
    mean, covariance = kalman.predict(mean, covariance, NOISE)
    assert kalman.gating_distance(mean, covariance, np.zeros((3, 4)), NOISE).shape == (0, 3)
    one = kalman.initiate(np.array([[1.0, 1, 1, 1]]), NOISE)
    assert kalman.gating_distance(*one, np.zeros((0, 4)), NOISE).shape == (1, 0)
