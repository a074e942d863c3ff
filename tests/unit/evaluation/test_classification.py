"""Metrics of classifiers against hand-computed values and scikit-learn."""

import numpy as np
import pytest

from vision.classification.readout import Readout
from vision.errors import InvalidInputError
from vision.evaluation.classification import best_threshold, confusion_matrix, mean_average_precision, measure

NAMES = ("a", "b", "c")
ONE = Readout(task="multiclass", class_names=NAMES)
MANY = Readout(task="multilabel", class_names=NAMES, threshold=0.5)
VALUE = Readout(task="regression")


def test_multiclass_by_hand():
    outputs = np.float32([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]])
    targets = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    scores = measure(outputs, targets, ONE)
    assert scores.metrics["accuracy"] == 0.75
    assert scores.metrics["top5"] == 1
    # a: 1 hit of 2 predicted and 1 true; b: 1 of 1 and 2; c: 1 of 1 and 1.
    assert scores.metrics["f1/a"] == pytest.approx(2 / 3)
    assert scores.metrics["f1/b"] == pytest.approx(2 / 3)
    assert scores.metrics["f1/c"] == 1
    assert scores.metrics["macro_f1"] == pytest.approx(7 / 9)
    assert scores.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert scores.metrics["pictures"] == 4


def test_classes_that_do_not_occur_are_left_out_of_the_mean():
    scores = measure(np.float32([[0.9, 0.1, 0], [0.2, 0.7, 0.1]]), np.float32([[1, 0, 0], [0, 1, 0]]), ONE)
    assert scores.metrics["macro_f1"] == 1
    assert "f1/c" not in scores.metrics


def test_multilabel_by_hand():
    outputs = np.float32([[0.9, 0.2, 0.6], [0.8, 0.7, 0.1], [0.1, 0.6, 0.2]])
    targets = np.float32([[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    metrics = measure(outputs, targets, MANY).metrics
    # Assigned: a twice, b twice, c once; right: a once, b twice.
    assert metrics["f1"] == pytest.approx(2 * 3 / (5 + 3))
    assert metrics["mAP"] == pytest.approx(1)
    assert metrics["threshold"] == 0.5
    assert "f1/c" not in metrics


@pytest.mark.parametrize("count", [1, 2, 5])
def test_average_precision_agrees_with_scikit_learn(count):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(count)
    truths = rng.uniform(size=(60, count)) < 0.3
    outputs = np.round(rng.uniform(size=(60, count)) * 0.7 + truths * 0.3, 1).astype(np.float32)  # with ties
    ours = mean_average_precision(outputs, truths)
    assert ours == pytest.approx(metrics.average_precision_score(truths, outputs, average="macro"), abs=1e-5)


def test_best_threshold_agrees_with_trying_all():
    rng = np.random.default_rng(0)
    truths = rng.uniform(size=(40, 3)) < 0.3
    outputs = np.round(rng.uniform(size=(40, 3)) * 0.6 + truths * 0.4, 2).astype(np.float32)
    readouts = {t: Readout(task="multilabel", class_names=NAMES, threshold=float(t)) for t in np.unique(outputs)}
    f1 = {t: measure(outputs, truths.astype(np.float32), readout).metrics["f1"] for t, readout in readouts.items()}
    chosen = best_threshold(outputs, truths.astype(np.float32))
    assert f1[np.float32(chosen)] == pytest.approx(max(f1.values()))
    assert best_threshold(outputs, np.zeros((40, 3), np.float32)) == 0.5


def test_regression_by_hand():
    metrics = measure(np.float32([[1], [2], [6]]), np.float32([[1], [4], [4]]), VALUE).metrics
    assert metrics["mae"] == pytest.approx(4 / 3)
    assert metrics["rmse"] == pytest.approx(np.sqrt(8 / 3))
    assert metrics["r2"] == pytest.approx(1 - 8 / 6)
    assert measure(np.float32([[1]]), np.float32([[4]]), VALUE).metrics["r2"] == 0


def test_confusion_matrix_counts_true_by_predicted():
    assert confusion_matrix(np.array([0, 0, 2]), np.array([0, 1, 2]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("shapes", [((2, 3), (2, 2)), ((0, 3), (0, 3))])
def test_outputs_and_targets_must_match(shapes):
    with pytest.raises(InvalidInputError, match="alike"):
        measure(np.zeros(shapes[0], np.float32), np.zeros(shapes[1], np.float32), ONE)
