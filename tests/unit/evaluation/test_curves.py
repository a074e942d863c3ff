"""Thresholds and F1 on counts made by hand, against a slow and literal definition."""

from __future__ import annotations

import numpy as np
import pytest

from vision.evaluation.curves import best_threshold, check_threshold, f1_at, mean_f1_at, precision_recall
from vision.evaluation.matching import ClassMatches


def matches(
    scores: list[float], correct: list[bool], objects: list[int], images: list[int] | None = None
) -> ClassMatches:
    count = len(scores)
    return ClassMatches(
        0,
        np.array(scores, np.float64),
        np.array(correct, np.bool_),
        np.array(images if images is not None else [0] * count, np.int64),
        np.arange(count),
        np.where(correct, 0, -1),
        np.array(objects, np.int64),
    )


def test_precision_and_recall_after_each_detection() -> None:
    precision, recall = precision_recall(matches([0.9, 0.8, 0.7], [True, False, True], [4]))
    assert precision.tolist() == [1, 0.5, pytest.approx(2 / 3)]
    assert recall.tolist() == [0.25, 0.25, 0.5]


@pytest.mark.parametrize(
    ("threshold", "f1"),
    [(0.95, 0), (0.9, 2 / 5), (0.85, 2 / 5), (0.8, 4 / 7), (0.0, 4 / 7)],
    ids=["above all", "equal is kept", "between", "equal scores enter together", "all"],
)
def test_f1_at_a_threshold(threshold: float, f1: float) -> None:
    """Four objects; 2 TP / (kept + objects)."""
    item = matches([0.9, 0.8, 0.8], [True, False, True], [4])
    assert f1_at(item, np.array([threshold]))[0] == pytest.approx(f1)


def test_the_best_threshold_is_that_of_all_classes_together() -> None:
    """Alone, the first class is best at 0.9 and the second at 0.3; together one threshold must serve."""
    first = matches([0.9, 0.3, 0.2], [True, False, False], [1])
    second = matches([0.4, 0.3], [True, True], [2])
    absent = matches([0.99], [False], [0])
    assert best_threshold([first]).conf == 0.9
    assert best_threshold([second]).conf == 0.3
    best = best_threshold([first, second, absent])
    literal = {t: mean_f1_at([first, second], np.array([t]))[0] for t in (0.9, 0.4, 0.3, 0.2)}
    assert best.conf == max(literal, key=lambda t: literal[t])
    assert best.f1 == pytest.approx(max(literal.values()))


@pytest.mark.parametrize("item", [matches([], [], [3]), matches([0.5], [False], [3]), matches([0.5], [False], [0])])
def test_nothing_right_has_no_threshold(item: ClassMatches) -> None:
    best = best_threshold([item])
    assert (best.conf, best.f1) == (0, 0)


def test_many_scores_are_thinned_without_harm() -> None:
    rng = np.random.default_rng(0)
    scores = np.sort(rng.uniform(0, 1, 30_000))[::-1]
    correct = rng.uniform(0, 1, 30_000) < scores
    item = matches(scores.tolist(), correct.tolist(), [20_000])
    every = f1_at(item, scores).max()
    assert best_threshold([item]).f1 == pytest.approx(every, abs=1e-4)


def test_each_half_judges_the_threshold_of_the_other() -> None:
    """Pictures 0 and 2 want 0.8, pictures 1 and 3 want 0.4."""
    item = matches(
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        [True, True, False, False, True, True],
        [1, 1, 1, 1],
        images=[0, 2, 0, 2, 1, 3],
    )
    check = check_threshold([item])
    assert check is not None
    assert [half.conf for half in check.halves] == [0.8, 0.4]
    assert [half.f1 for half in check.halves] == [1, 1]
    assert check.swapped_f1 == (pytest.approx(2 / 3), 0)
    assert check.cross_f1 == pytest.approx(1 / 3)
    assert check_threshold([matches([0.9], [True], [1, 0])]) is None
    assert check_threshold([]) is None
