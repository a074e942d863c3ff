from __future__ import annotations

import numpy as np
from filterpy.kalman import KalmanFilter

from vision.tracking import kalman
from vision.tracking.interpolation import find_runs
from vision.tracking.rts import TRANSITION, block_terms, dense_covariance, filter_forward, smooth_rts

NOISE = kalman.Noise()


def walk(frames: np.ndarray, seed: int, noise_px: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return true and seen boxes (cx, cy, a, h) of a person that walks and comes nearer."""
    truth = np.stack([100 + 2.5 * frames, 200 + 0.5 * frames, 0.4 + 0 * frames, 120 + 0.3 * frames], axis=1)
    spread = np.array([noise_px, noise_px, 0.03, noise_px])
    return truth, truth + np.random.default_rng(seed).normal(0, 1, truth.shape) * spread


def test_forward_pass_and_smoother_agree_with_filterpy() -> None:
    frames = np.array([3, 4, 5, 6, 9, 10, 14, 15, 16])
    _, boxes = walk(frames, 0)
    runs = find_runs(np.ones_like(frames), frames, max_gap=10)
    mean, covariance, process = filter_forward(runs, boxes, NOISE)
    # filterpy has its own predict, update and smoother; it is given the noise that our heights decided.
    measurement: list[np.ndarray | None] = [
        boxes[row] if seen else None for row, seen in zip(runs.before, runs.seen, strict=True)
    ]
    matrix = np.eye(4, 8)
    first_mean, first_covariance = kalman.initiate(boxes[:1], NOISE)
    reference = KalmanFilter(dim_x=8, dim_z=4)
    reference.x, reference.P = first_mean[0], dense_covariance(first_covariance)[0]
    states, spreads = [reference.x.copy()], [reference.P.copy()]
    for step in range(1, len(runs.frames)):
        reference.predict(F=TRANSITION, Q=np.diag(process[step]))
        height = np.array([reference.x[3]])
        reference.update(
            measurement[step], R=np.diag(NOISE.of_position(height, kalman.STD_ASPECT_MEASURED)[0]), H=matrix
        )
        states.append(reference.x.copy())
        spreads.append(reference.P.copy())
    np.testing.assert_allclose(mean, states, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariance, block_terms(np.array(spreads)), rtol=1e-8, atol=1e-12)
    noises = [np.diag(row) for row in process]
    expected, expected_spread, _, _ = reference.rts_smoother(
        np.array(states), np.array(spreads), [TRANSITION] * len(states), noises
    )
    smoothed = smooth_rts(runs, boxes, NOISE)
    np.testing.assert_allclose(smoothed.mean, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(smoothed.covariance, block_terms(expected_spread), rtol=1e-8, atol=1e-12)


def test_smoothing_all_tracks_at_once_is_smoothing_each() -> None:
    lengths = [5, 1, 12, 7]
    ids = np.repeat([1, 2, 4, 9], lengths)
    frames = np.concatenate([np.sort(np.random.default_rng(n).choice(20, n, replace=False)) for n in lengths])
    _, boxes = walk(frames, 1)
    together = smooth_rts(find_runs(ids, frames, 4), boxes, NOISE)
    alone = [smooth_rts(find_runs(ids[ids == i], frames[ids == i], 4), boxes[ids == i], NOISE) for i in (1, 2, 4, 9)]
    np.testing.assert_array_equal(together.mean, np.concatenate([part.mean for part in alone]))


def test_smoothed_boxes_are_nearer_the_truth_than_seen_and_filtered_ones() -> None:
    frames = np.arange(150)
    truth, boxes = walk(frames, 2, noise_px=6.0)
    runs = find_runs(np.ones_like(frames), frames, 0)
    filtered, _, _ = filter_forward(runs, boxes, NOISE)
    smoothed = smooth_rts(runs, boxes, NOISE).mean

    def error(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((values[:, :2] - truth[:, :2]) ** 2)))

    assert error(smoothed) < 0.8 * error(filtered)
    assert error(smoothed) < 0.75 * error(boxes)


def test_the_smoother_is_never_less_sure_than_the_filter() -> None:
    frames = np.array([0, 1, 2, 3, 7, 8, 9])
    _, boxes = walk(frames, 3)
    runs = find_runs(np.ones_like(frames), frames, 10)
    _, filtered, _ = filter_forward(runs, boxes, NOISE)
    smoothed = smooth_rts(runs, boxes, NOISE).covariance
    assert (smoothed[:, 0] <= filtered[:, 0] * (1 + 1e-9)).all()


def test_one_box_and_none() -> None:
    boxes = np.array([[10.0, 20, 0.5, 40]])
    runs = find_runs(np.array([1]), np.array([7]), 5)
    assert smooth_rts(runs, boxes, NOISE).mean[:, :4].tolist() == boxes.tolist()
    empty = find_runs(np.zeros(0, np.int64), np.zeros(0, np.int64), 5)
    assert smooth_rts(empty, np.zeros((0, 4)), NOISE).mean.shape == (0, 8)


def test_terms_and_matrices_are_each_others_inverse() -> None:
    terms = np.random.default_rng(4).uniform(1, 2, (3, 3, 4))
    np.testing.assert_array_equal(block_terms(dense_covariance(terms)), terms)
