from __future__ import annotations

import numpy as np

from vision.tracking.assignment import assign, is_unrivalled, match_cascade


def pairs(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(np.isfinite(costs))
    return rows, columns, costs[rows, columns]


def matched(result: tuple[np.ndarray, np.ndarray]) -> set[tuple[int, int]]:
    return set(zip(result[0].tolist(), result[1].tolist(), strict=True))


def test_no_pairs_match_nothing() -> None:
    empty = np.zeros(0, np.intp)
    assert matched(assign(empty, empty, np.zeros(0), 1)) == set()
    assert matched(match_cascade(empty, empty, np.zeros(0, np.int64), lambda chosen: np.zeros(len(chosen)), 1)) == set()


def test_a_pair_at_the_limit_matches_and_one_above_does_not() -> None:
    assert matched(assign(*pairs(np.array([[0.2]])), 0.2)) == {(0, 0)}
    assert matched(assign(*pairs(np.array([[0.21]])), 0.2)) == set()


def test_a_sure_pair_is_not_traded_for_two_poor_ones() -> None:
    costs = np.array([[0.1, 0.65], [0.6, np.inf]])
    assert matched(assign(*pairs(costs), 0.7)) == {(0, 0)}


def test_unrivalled_needs_both_sides_alone() -> None:
    rows, columns = np.array([0, 1, 1, 5]), np.array([0, 1, 2, 2])
    np.testing.assert_array_equal(is_unrivalled(rows, columns), [True, False, False, False])


def test_the_track_seen_last_chooses_first_even_at_a_higher_cost() -> None:
    rows, columns = np.array([0, 1]), np.array([0, 0])
    ages = np.array([5, 1])
    costs = {0: 0.01, 1: 0.15}
    result = match_cascade(rows, columns, ages, lambda chosen: np.array([costs[int(i)] for i in rows[chosen]]), 0.2)
    assert matched(result) == {(1, 0)}


def test_costs_of_older_tracks_are_asked_only_for_free_detections() -> None:
    asked: list[set[tuple[int, int]]] = []

    def cost_of(chosen: np.ndarray) -> np.ndarray:
        asked.append(matched((rows[chosen], columns[chosen])))
        return np.zeros(len(chosen))

    rows, columns, ages = np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), np.array([1, 3, 3, 2])
    assert matched(match_cascade(rows, columns, ages, cost_of, 0.2)) == {(0, 0), (2, 1)}
    assert asked == [{(0, 0)}, {(1, 1), (2, 1)}]
