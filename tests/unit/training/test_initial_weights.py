"""Starting from a trained detector: what fits is copied, what depends on the classes starts anew."""

from pathlib import Path

import pytest
import torch

from vision.errors import ModelNotFoundError, WeightsError
from vision.store import find_model, load_weights
from vision.training.config import DetectorTrainingConfig
from vision.training.tasks.detector import build_network


def config(**changes: object) -> DetectorTrainingConfig:
    values = {"pretrained": False, "init": "person-lite0", **changes}
    return DetectorTrainingConfig(train_data=Path("a"), val_data=Path("b"), **values)  # type: ignore[arg-type]


def test_the_same_classes_copy_everything() -> None:
    own = build_network(config(), 1).state_dict()
    for name, value in load_weights(find_model("person-lite0")).items():
        assert torch.equal(own[name], value), name


def test_other_classes_start_with_a_fresh_last_layer() -> None:
    weights = load_weights(find_model("person-lite0"))
    own = build_network(config(), 3).state_dict()
    assert own["class_head.predict.weight"].shape[0] == 3
    assert own["class_head.predict.weight"].std() == pytest.approx(0.01, rel=0.2)
    assert torch.equal(own["box_head.predict.weight"], weights["box_head.predict.weight"])
    assert torch.equal(own["neck.lateral.0.0.weight"], weights["neck.lateral.0.0.weight"])


def test_another_architecture_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"must have the architecture of this run.*set the same backbone"):
        build_network(config(channels=64), 1)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(ModelNotFoundError, match="person-lite0"):
        build_network(config(init="person-lite"), 1)
