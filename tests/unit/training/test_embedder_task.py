"""The embedder's losses against hand-computed values, its frozen stages, and its configuration's checks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vision.errors import ConfigError
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.tasks.embedder import EmbedderTask, batch_hard_triplet_loss

CONFIG = EmbedderTrainingConfig(data=Path("crops"), pretrained=False, dim=8, size_hw=(32, 16), freeze_stride=8)


def test_triplet_loss_by_hand():
    # Person 0 at 0 and 3, person 1 at 4 and 10 on a line.
    features = torch.tensor([[0.0], [3.0], [4.0], [10.0]])
    # Farthest same minus nearest other: 3 - 4, 3 - 1, 6 - 1, 6 - 7; plus the margin 0.5, not below 0.
    expected = (0 + 2.5 + 5.5 + 0) / 4
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.5)
    assert loss.item() == pytest.approx(expected, abs=1e-3)


def test_triplet_loss_of_well_separated_people_is_zero():
    features = torch.tensor([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.0, 0.1]])
    assert batch_hard_triplet_loss(features, torch.tensor([7, 7, 3, 3]), margin=0.3).item() == 0


def test_triplet_gradient_is_finite_for_equal_features():
    features = torch.zeros(4, 2, requires_grad=True)
    batch_hard_triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3).backward()
    assert torch.isfinite(features.grad).all()


def test_frozen_stages_get_no_gradient_and_no_new_statistics():
    task = EmbedderTask(CONFIG, people=2).train()
    before = {name: value.clone() for name, value in task.network.backbone.state_dict().items()}
    raw, centred = task.network.features(torch.randn(4, 3, 32, 16))
    (raw.sum() + centred.pow(2).sum()).backward()
    stages = task.network.backbone.stages
    assert all(parameter.grad is None for stage in stages[:2] for parameter in stage.parameters())
    assert all(parameter.grad is not None for parameter in stages[2].parameters())
    after = task.network.backbone.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_hw": (100, 64)}, "multiples of the stride 16"),
        ({"people": 1}, "people and crops must be >= 2"),
        ({"holdout_people": 1}, "holdout_people must be >= 2"),
        ({"epochs": 0}, "epochs, eval_every"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)
