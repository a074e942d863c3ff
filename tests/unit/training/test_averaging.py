"""The mean of weights: what is averaged, what is kept, what is refused."""

from dataclasses import replace

import pytest
import torch

from vision.errors import InvalidInputError, WeightsError
from vision.store import find_model
from vision.training.averaging import average_models, mean_weights


def test_floats_are_averaged_and_counters_kept():
    models = [
        {"weight": torch.tensor([1.0, 2.0]), "batches": torch.tensor(7)},
        {"weight": torch.tensor([3.0, -2.0]), "batches": torch.tensor(9)},
        {"weight": torch.tensor([5.0, 3.0]), "batches": torch.tensor(1)},
    ]
    mean = mean_weights(models, ["a", "b", "c"])
    torch.testing.assert_close(mean["weight"], torch.tensor([3.0, 1.0]))
    assert mean["batches"].item() == 7


@pytest.mark.parametrize("other", [{"weight": torch.ones(3)}, {"bias": torch.ones(2)}])
def test_other_tensors_are_named(other):
    with pytest.raises(WeightsError, match=r"b differs from a: expected weight.*, found (bias|weight)"):
        mean_weights([{"weight": torch.ones(2)}, other], ["a", "b"])


def test_models_that_differ_in_anything_but_weights_are_refused(tmp_path):
    card = find_model("reid-lite")
    other = replace(card, preprocess={**card.preprocess, "size_hw": [256, 128]})
    with pytest.raises(InvalidInputError, match="must have the same preprocess"):
        average_models([card, other], tmp_path / "mean", name="mean")
    with pytest.raises(InvalidInputError, match="must have the same kind"):
        average_models([card, find_model("person-lite0")], tmp_path / "mean", name="mean")


def test_a_model_is_not_overwritten_by_its_own_average():
    card = find_model("reid-lite")
    with pytest.raises(InvalidInputError, match="one of the models to average"):
        average_models([card, card], card.folder, name="reid-lite")


def test_the_card_names_each_source_once(tmp_path):
    card = find_model("reid-lite")
    mean = average_models([card, card], tmp_path / "mean", name="mean")
    assert mean.data == card.data
    assert mean.metrics == mean.latency == ()
    assert "models average reid-lite reid-lite" in mean.training["command"]
