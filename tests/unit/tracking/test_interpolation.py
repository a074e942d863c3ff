from __future__ import annotations

import numpy as np

from vision.tracking.interpolation import find_runs, interpolate


def test_a_gap_becomes_a_straight_line() -> None:
    runs = find_runs(np.array([1, 1]), np.array([4, 8]), max_gap=3)
    boxes = interpolate(runs, np.array([[0.0, 0, 10, 10], [8, 4, 18, 34]]))
    assert runs.frames.tolist() == [4, 5, 6, 7, 8]
    assert runs.seen.tolist() == [True, False, False, False, True]
    assert boxes[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert boxes[:, 3].tolist() == [10, 16, 22, 28, 34]


def test_a_longer_gap_ends_the_run() -> None:
    runs = find_runs(np.array([1, 1, 1]), np.array([0, 4, 6]), max_gap=2)
    assert runs.frames.tolist() == [0, 4, 5, 6]
    assert runs.starts.tolist() == [0, 1]
    assert runs.lengths.tolist() == [1, 3]


def test_tracks_are_never_bridged() -> None:
    runs = find_runs(np.array([1, 2]), np.array([0, 1]), max_gap=9)
    assert runs.starts.tolist() == [0, 1]
    assert runs.seen.all()


def test_without_gaps_or_rows_nothing_changes() -> None:
    values = np.array([[0.1], [0.7]])
    runs = find_runs(np.array([1, 1]), np.array([0, 1]), max_gap=0)
    assert interpolate(runs, values).tolist() == values.tolist()
    empty = find_runs(np.zeros(0, np.int64), np.zeros(0, np.int64), max_gap=5)
    assert len(empty.frames) == len(empty.starts) == len(empty.lengths) == 0
    assert interpolate(empty, np.zeros((0, 4))).shape == (0, 4)


def test_scores_are_interpolated_as_a_column() -> None:
    runs = find_runs(np.array([3, 3]), np.array([0, 2]), max_gap=1)
    assert interpolate(runs, np.array([0.0, 1.0])).tolist() == [0, 0.5, 1]
