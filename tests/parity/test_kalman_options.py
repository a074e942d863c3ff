"""The filter's options against filterpy: steps of any length, NSA noise, camera motion, and all of them in turn."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import KalmanFilter
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.tracking import kalman

NOISE = kalman.Noise(1 / 15, 1 / 120)
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
seeds = st.integers(0, 2**32 - 1)


def deviations(height: float, factor: float = 1.0) -> tuple[list[float], list[float]]:
    """Return the standard deviations of position and velocity steps of a box of this height."""
    position, velocity = height * NOISE.position, height * NOISE.velocity * factor
    return [position, position, kalman.STD_ASPECT, position], [
        velocity,
        velocity,
        kalman.STD_ASPECT_VELOCITY,
        velocity,
    ]


def reference(box: np.ndarray) -> KalmanFilter:
    """Return filterpy's filter of one box at rest."""
    full = KalmanFilter(dim_x=8, dim_z=4)
    full.x = np.concatenate([box, np.zeros(4)])
    full.H = np.eye(4, 8)
    position, _ = deviations(2 * box[3])
    _, velocity = deviations(box[3], kalman.INITIAL_VELOCITY_FACTOR)
    full.P = np.diag(np.square(position + velocity))
    return full


def predict(full: KalmanFilter, dt: float) -> None:
    position, velocity = deviations(full.x[3])
    full.predict(F=np.eye(8) + dt * np.eye(8, k=4), Q=dt * np.diag(np.square(position + velocity)))


def correct(full: KalmanFilter, box: np.ndarray, factor: float) -> None:
    position, _ = deviations(full.x[3])
    position[2] = kalman.STD_ASPECT_MEASURED
    full.update(box, R=factor * np.diag(np.square(position)))


def transform(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 8x8 matrix and the shift by which a camera motion moves a state."""
    scale = np.sqrt(np.linalg.det(motion[:, :2]))
    A, shift = np.eye(8), np.zeros(8)
    A[:2, :2] = A[4:6, 4:6] = motion[:, :2]
    A[3, 3] = A[7, 7] = scale
    shift[:2] = motion[:, 2]
    return A, shift


def uncoupled(covariance: np.ndarray) -> np.ndarray:
    """Return the terms [3, 4] that our filter keeps of an 8x8 covariance."""
    index = np.arange(4)
    return np.stack(
        [covariance[rows, columns] for rows, columns in ((index, index), (index, index + 4), (index + 4, index + 4))]
    )


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    place = rng.uniform(-500, 4000, (count, 2))
    return np.column_stack([place, rng.uniform(0.2, 3, count), rng.uniform(10, 400, count)])


@settings(max_examples=60)
@given(seed=seeds, data=st.data())
def test_steps_of_changing_length_nsa_noise_and_an_upright_camera_agree_with_filterpy(
    seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(rng, 4)
    mean, covariance = kalman.initiate(boxes, NOISE)
    full = [reference(box) for box in boxes]
    for _ in range(10):
        dt = data.draw(st.sampled_from([0.25, 1.0, 1.7, 4.0]))
        mean, covariance = kalman.predict(mean, covariance, NOISE, dt)
        # Upright: stretched along the axes and moved, which couples nothing.
        motion = np.array(
            [[rng.uniform(0.9, 1.1), 0, rng.normal(0, 30)], [0, rng.uniform(0.9, 1.1), rng.normal(0, 30)]]
        )
        mean, covariance = kalman.warp(mean, covariance, motion)
        A, shift = transform(motion)
        for one in full:
            predict(one, dt)
            one.x, one.P = A @ one.x + shift, A @ one.P @ A.T
        scores = rng.uniform(-0.5, 1.5, len(boxes))
        factors = np.clip(1 - scores, kalman.MIN_UNCERTAINTY, 1)
        np.testing.assert_array_equal(kalman.nsa_uncertainty(scores), factors)
        seen = mean[:, :4] * rng.normal(1, 0.02, (len(boxes), 4))
        mean, covariance = kalman.update(mean, covariance, seen, NOISE, factors)
        for track, one in enumerate(full):
            correct(one, seen[track], factors[track])
            np.testing.assert_allclose(mean[track], one.x, **TOLERANCE)
            np.testing.assert_allclose(covariance[track], uncoupled(one.P), **TOLERANCE)


@settings(max_examples=60)
@given(seed=seeds, angle=st.floats(-3, 3), scale=st.floats(0.5, 2))
def test_a_turning_camera_moves_means_fully_and_keeps_each_axis_share_of_the_variance(
    seed: int, angle: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    motion = np.column_stack([turn, rng.normal(0, 50, 2)])
    mean, covariance = kalman.initiate(random_boxes(rng, 5), NOISE)
    mean, covariance = kalman.predict(mean, covariance, NOISE)
    mean[:, 4:] = rng.normal(0, 2, (5, 4))
    warped, spread = kalman.warp(mean, covariance, motion)
    A, shift = transform(motion)
    index = np.arange(4)
    for track in range(5):
        P = np.zeros((8, 8))
        P[index, index], P[index + 4, index + 4] = covariance[track, 0], covariance[track, 2]
        P[index, index + 4] = P[index + 4, index] = covariance[track, 1]
        np.testing.assert_allclose(warped[track], A @ mean[track] + shift, **TOLERANCE)
        np.testing.assert_allclose(spread[track], uncoupled(A @ P @ A.T), **TOLERANCE)
    assert (spread[:, 0] * spread[:, 2] > spread[:, 1] ** 2).all()


def test_the_motion_that_moves_nothing_changes_no_bit_and_no_argument() -> None:
    mean, covariance = kalman.initiate(random_boxes(np.random.default_rng(0), 3), NOISE)
    before = mean.copy(), covariance.copy()
    warped = kalman.warp(mean, covariance, np.eye(2, 3))
    for array, old, new in zip((mean, covariance), before, warped, strict=True):
        np.testing.assert_array_equal(array, old)
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("seed", range(3))
def test_one_step_over_n_frames_predicts_the_place_of_n_steps(seed: int) -> None:
    """The noise grows a little less: it follows the height at the start of a step."""
    mean, covariance = kalman.initiate(random_boxes(np.random.default_rng(seed), 4), NOISE)
    mean[:, 4:] = np.random.default_rng(seed).normal(0, 0.01, (4, 4))
    many = mean, covariance
    for _ in range(5):
        many = kalman.predict(*many, NOISE)
    once = kalman.predict(mean, covariance, NOISE, 5.0)
    np.testing.assert_allclose(once[0], many[0], **TOLERANCE)
    assert (once[1][:, 0] > covariance[:, 0]).all()


def test_a_sure_detection_pulls_harder() -> None:
    state = kalman.initiate(np.array([[100.0, 100, 0.5, 80]] * 2), NOISE)
    seen = np.array([[120.0, 100, 0.5, 80]] * 2)
    mean, covariance = kalman.update(*state, seen, NOISE, kalman.nsa_uncertainty(np.array([0.95, 0.2])))
    assert 100 < mean[1, 0] < mean[0, 0] < 120
    assert (covariance[0, 0] < covariance[1, 0]).all()
