"""Logits to probabilities and values, probabilities to results, and the card that keeps their meaning."""

import numpy as np
import pytest

from vision.classification.readout import Readout, read_logits
from vision.errors import ModelError

NAMES = ("ant", "bee", "cat")


def readout(task="multiclass", **changes):
    return Readout(task=task, class_names=() if task == "regression" else NAMES, **changes)


def test_softmax_sums_to_one_and_survives_large_numbers():
    found = read_logits(np.float32([[1000, 1000, -1000], [0, 1, 2]]), readout())
    assert found[0].tolist() == [0.5, 0.5, 0]
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found.dtype == np.float32


def test_sigmoid_is_symmetric_and_survives_large_numbers():
    found = read_logits(np.float32([[1000, -1000, 0], [2, -2, 1]]), readout("multilabel"))
    assert found[0].tolist() == [1, 0, 0.5]
    assert found[1, 0] + found[1, 1] == pytest.approx(1)


def test_values_are_scaled_back():
    given = readout("regression", mean=10, scale=2, unit="mm")
    outputs = read_logits(np.float32([[-1.5]]), given)
    result = given.classification(outputs[0])
    assert (result.value, result.unit, len(result)) == (7, "mm", 0)


def test_one_class_is_assigned_where_they_exclude_each_other():
    result = readout().classification(np.float32([0.2, 0.5, 0.3]))
    assert result.names == ("bee", "cat", "ant")
    assert result.labels.tolist() == [1, 2, 0]
    assert result.assigned == 1


@pytest.mark.parametrize(("threshold", "assigned"), [(0.9, 0), (0.8, 1), (0.5, 2), (0.0, 3)])
def test_labels_are_assigned_from_the_threshold_on(threshold, assigned):
    result = readout("multilabel", threshold=threshold).classification(np.float32([0.1, 0.8, 0.5]))
    assert result.assigned == assigned


def test_ties_keep_the_order_of_the_labels():
    assert readout().classification(np.float32([0.4, 0.2, 0.4])).labels.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    "given",
    [
        readout(),
        readout("multilabel", threshold=0.3),
        readout("regression", mean=3.5, scale=0.25, unit="years"),
    ],
    ids=lambda item: item.task,
)
def test_card_gives_the_readout_back(given):
    assert Readout.from_card(given.to_card(), given.class_names) == given


@pytest.mark.parametrize(
    ("task", "names", "message"),
    [
        ("multi-class", NAMES, "did you mean 'multiclass'"),
        ("multiclass", (), "must have labels"),
        ("regression", NAMES, "no labels"),
    ],
)
def test_meaningless_readouts_are_refused(task, names, message):
    with pytest.raises(ModelError, match=message):
        Readout(task=task, class_names=names)
