"""The losses of the three tasks against hand-computed values, class weights, and what a backbone's size allows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vision.backbones.registry import build_classifier
from vision.classification.readout import Readout
from vision.errors import ConfigError
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.fit_classifier import training_input, training_readout
from vision.training.tasks.classifier import ClassifierTask, balanced_weights, regression_loss

CONFIG = ClassifierTrainingConfig(data=Path("x"), backbone="lenet5", pretrained=False, label_smoothing=0.0)
NAMES = ("a", "b", "c")


def loss(readout, logits, targets, weights=None, **changes):
    task = ClassifierTask(replace(CONFIG, task=readout.task, **changes), readout, weights)
    return task.loss(torch.tensor(logits), torch.tensor(targets)).item()


def test_cross_entropy_by_hand():
    readout = Readout(task="multiclass", class_names=NAMES)
    logits, target = [[0.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]
    assert loss(readout, logits, target) == pytest.approx(np.log(3))
    # Two thirds of the smoothed share leave the true class; with equal logits the loss does not change.
    assert loss(readout, logits, target, label_smoothing=0.3) == pytest.approx(np.log(3))
    sure = loss(readout, [[0.0, 9.0, 0.0]], target)
    assert sure < 0.001 < loss(readout, [[0.0, 9.0, 0.0]], target, label_smoothing=0.3)


def test_class_weights_count_a_rare_class_more():
    readout = Readout(task="multiclass", class_names=NAMES)
    logits = [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    targets = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    plain = loss(readout, logits, targets)
    weighted = loss(readout, logits, targets, np.float32([0.5, 2.0, 1.0]))
    assert weighted > plain


def test_sigmoid_loss_by_hand():
    readout = Readout(task="multilabel", class_names=NAMES)
    assert loss(readout, [[0.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]]) == pytest.approx(np.log(2))
    doubled = loss(readout, [[0.0, 0.0, 0.0]], [[1.0, 0.0, 1.0]], np.float32([2, 2, 2]))
    assert doubled == pytest.approx(np.log(2) * 5 / 3)


@pytest.mark.parametrize(("kind", "expected"), [("mse", (9 + 0.25) / 2), ("mae", 1.75), ("huber", (2.5 + 0.125) / 2)])
def test_regression_losses_by_hand(kind, expected):
    outputs, targets = torch.tensor([[3.0], [0.5]]), torch.tensor([[0.0], [0.0]])
    assert regression_loss(outputs, targets, kind=kind).item() == pytest.approx(expected)


def test_regression_learns_normalised_values():
    readout = training_readout(replace(CONFIG, task="regression"), (), np.float32([[10], [14]]))
    assert (readout.mean, readout.scale) == (12, 2)
    assert loss(readout, [[1.0]], [[14.0]], regression_loss="mse") == pytest.approx(0)


def test_balanced_weights():
    one = np.float32([[1, 0], [1, 0], [1, 0], [0, 1]])
    weights = balanced_weights(one, several=False)
    assert weights.tolist() == pytest.approx([2 / 3, 2])
    assert (one @ weights).mean() == pytest.approx(1)
    assert balanced_weights(one, several=True).tolist() == pytest.approx([1 / 3, 3])
    assert np.isfinite(balanced_weights(np.float32([[1, 0], [1, 0]]), several=True)).all()


def test_dropout_and_freezing_reach_the_network():
    task = ClassifierTask(replace(CONFIG, dropout=0.4, freeze_stride=2), Readout(task="multiclass", class_names=NAMES))
    assert [module.p for module in task.network.modules() if isinstance(module, torch.nn.Dropout)] == [0.4]
    frozen = [not any(weight.requires_grad for weight in stage.parameters()) for stage in task.network.backbone.stages]
    assert frozen == [True, False]


@pytest.mark.parametrize(
    ("name", "size", "fits"),
    [
        ("lenet5", 0, True),
        ("lenet5", 30, False),
        ("lenet5", 48, False),
        ("lenet5", 52, True),
        ("perceptron", 64, True),
        ("perceptron", 40, False),
        ("resnet18", 64, True),
        ("resnet18", 100, False),
    ],
)
def test_sizes_that_a_backbone_can_take(name, size, fits):
    network = build_classifier(name, 3)
    settings = replace(CONFIG, backbone=name, image_size=size)
    if fits:
        side = size or 32
        assert training_input(settings, network).size_hw == (side, side)
        assert network.eval()(torch.zeros(1, 3, side, side)).shape == (1, 3)
    else:
        with pytest.raises(ConfigError, match="leave image_size out"):
            training_input(settings, network)
