"""The embedder's training step, its frozen stages, and its configuration's checks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vision.errors import ConfigError
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.tasks.embedder import EmbedderTask

CONFIG = EmbedderTrainingConfig(data=Path("crops"), pretrained=False, dim=8, size_hw=(32, 16), freeze_stride=8)


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
    ("change", "losses"),
    [
        ({}, {"loss_class", "loss_triplet"}),
        ({"triplet_weight": 0}, {"loss_class"}),
        ({"circle_weight": 1}, {"loss_class", "loss_triplet", "loss_circle"}),
        ({"stripes": 2}, {"loss_class", "loss_triplet", "loss_stripes"}),
        ({"stripes": 2, "stripe_weight": 0}, {"loss_class", "loss_triplet"}),
        ({"classifier_margin": 0.2, "margin": 0.0, "dropout": 0.2}, {"loss_class", "loss_triplet"}),
    ],
)
def test_a_step_sums_the_losses_that_are_on(change, losses, monkeypatch):
    torch.manual_seed(0)
    task = EmbedderTask(replace(CONFIG, **change), people=2).train()
    logged = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **_: logged.update(values))
    loss = task.training_step((torch.randn(4, 3, 32, 16), torch.tensor([0, 0, 1, 1])), 0)
    loss.backward()
    assert set(logged) == {*losses, "accuracy"}
    torch.testing.assert_close(loss, sum(logged[name] for name in losses))
    assert all(p.grad is not None for p in task.parameters() if p.requires_grad)


def test_teachers_add_their_loss(monkeypatch):
    torch.manual_seed(0)
    task = EmbedderTask(CONFIG, people=2).train()
    logged = {}
    monkeypatch.setattr(task, "log_dict", lambda values, **_: logged.update(values))
    task.training_step((torch.randn(4, 3, 32, 16), torch.tensor([0, 0, 1, 1]), torch.randn(4, 6)), 0)
    assert set(logged) == {"loss_class", "loss_triplet", "loss_teachers", "accuracy"}


def test_frozen_stages_run_elsewhere_on_the_cpu_with_the_same_features():
    task = EmbedderTask(CONFIG, people=2).eval()
    crops = torch.randn(2, 3, 32, 16)
    with torch.inference_mode():
        expected = task.network(crops)
        task.on_fit_start()
        torch.testing.assert_close(task.network(crops), expected, atol=1e-4, rtol=1e-4)


def test_augmentation_follows_the_settings():
    config = replace(CONFIG, erase=0.25, grey=0.5, box_jitter=0.1, low_resolution=0.3, colour=2, erase_area=(0.1, 0.2))
    made = config.augmentation
    assert (made.erase, made.grey, made.box_jitter, made.low_resolution, made.colour) == (0.25, 0.5, 0.1, 0.3, 2)
    assert (made.shift, made.erase_area) == (0.05, (0.1, 0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_hw": (100, 64)}, "multiples of the stride 16"),
        ({"people": 1}, "people and crops must be >= 2"),
        ({"holdout_people": 1}, "holdout_people must be >= 2"),
        ({"exclude_people": -1}, "exclude_people >= 0"),
        ({"stripes": 3}, "must divide the 2 rows"),
        ({"stripes": -1}, "must divide the 2 rows"),
        ({"triplet_weight": -1.0}, "triplet_weight must be >= 0"),
        ({"circle_weight": -1.0}, "circle_weight must be >= 0"),
        ({"classifier_margin": -0.1}, "classifier_margin must be >= 0"),
        ({"erase": 2.0}, "erase must be a probability"),
        ({"epochs": 0}, "epochs, eval_every"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)
