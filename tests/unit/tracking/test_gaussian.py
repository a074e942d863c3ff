from __future__ import annotations

import math

import numpy as np
import pytest

from vision.tracking.gaussian import (
    OVERLAP,
    WINDOW,
    length_scale,
    measurement_noise,
    regress,
    smooth_gaussian,
)
from vision.tracking.interpolation import find_runs


def smooth(frames: list[int] | np.ndarray, values: np.ndarray, max_gap: int = 1000) -> np.ndarray:
    frames = np.asarray(frames, np.int64)
    return smooth_gaussian(find_runs(np.ones_like(frames), frames, max_gap), values, 10.0)


def test_length_scale_is_the_papers_and_stays_positive() -> None:
    assert length_scale(50, 10.0) == pytest.approx(10 * math.log(1000 / 50))
    assert length_scale(5000, 10.0) == 1


def test_noise_is_read_off_second_differences() -> None:
    rng = np.random.default_rng(0)
    frames = np.arange(4000)
    values = np.stack([3.0 * frames + rng.normal(0, 2, 4000), 0.5 * frames], axis=1)
    assert measurement_noise(frames, values) == pytest.approx([2.0, 0.0], abs=0.1)
    assert measurement_noise(np.array([0, 5, 9]), np.zeros((3, 2))).tolist() == [0, 0]


def test_a_straight_line_stays_one_through_a_gap() -> None:
    made = smooth([0, 1, 2, 6, 7], np.array([[0.0], [2], [4], [12], [14]]))
    np.testing.assert_allclose(made[:, 0], 2.0 * np.arange(8), atol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_one_and_two_boxes(count: int) -> None:
    made = smooth([0, 4][:count], np.array([[5.0, 1.0], [9.0, 1.0]])[:count])
    expected = [[5.0, 1.0]] if count == 1 else [[5.0 + i, 1.0] for i in range(5)]
    np.testing.assert_allclose(made, expected, atol=1e-9)


def test_noise_decides_between_the_boxes_and_the_line() -> None:
    frames, values = np.arange(6), np.array([[0.0], [1], [0], [1], [0], [1]])
    exact = regress(frames, values, np.array([1e-6]), frames, 1.0)
    stiff = regress(frames, values, np.array([1e6]), frames, 1.0)
    line = np.polyval(np.polyfit(frames, values[:, 0], 1), frames)
    np.testing.assert_allclose(exact, values, atol=1e-3)
    np.testing.assert_allclose(stiff[:, 0], line, atol=1e-3)


def test_a_noisy_bend_comes_out_truer_than_it_was_seen() -> None:
    rng = np.random.default_rng(1)
    frames = np.delete(np.arange(120), np.arange(50, 62))
    truth = 60 * np.sin(np.arange(120) / 25)
    seen = (truth[frames] + rng.normal(0, 2, len(frames)))[:, None]
    made = smooth(frames, seen)[:, 0]
    assert np.abs(made[frames] - truth[frames]).mean() < 0.6 * np.abs(seen[:, 0] - truth[frames]).mean()
    straight = np.interp(np.arange(120), frames, seen[:, 0])
    assert np.abs(made - truth)[50:62].mean() < np.abs(straight - truth)[50:62].mean()


def test_windows_of_a_long_track_meet_without_a_step() -> None:
    length = 3 * WINDOW
    truth = 80 * np.sin(np.arange(length) / 30)
    seen = truth + np.random.default_rng(2).normal(0, 1, length)
    made = smooth(np.arange(length), seen[:, None])[:, 0]
    assert np.abs(np.diff(made) - np.diff(truth)).max() < 1.0
    assert np.abs(made - truth)[OVERLAP:-OVERLAP].max() < 1.5


def test_a_gap_wider_than_a_window() -> None:
    frames = np.concatenate([np.arange(10), np.arange(3 * WINDOW, 3 * WINDOW + 10)])
    made = smooth(frames, frames[:, None].astype(float))
    np.testing.assert_allclose(made[:, 0], np.arange(3 * WINDOW + 10), atol=1e-3)


def test_no_rows() -> None:
    assert smooth([], np.zeros((0, 4))).shape == (0, 4)
