"""The shapes of the schedules, optimizers and their parameter groups, and weight averaging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vision.errors import ConfigError
from vision.training.config import TrainingConfig
from vision.training.optimization import Ema, plan_optimization
from vision.training.schedules import build_schedule, one_cycle, one_cycle_momentum, warmup_length


def configure(**values: Any) -> TrainingConfig:
    return TrainingConfig(out=Path("run"), name="x", **values)


class Task:
    """A task of so many steps."""

    def __init__(self, total_steps: float) -> None:
        self.total_steps = total_steps


# --- schedules ---


def test_cosine_rises_linearly_and_falls_to_zero() -> None:
    factor = build_schedule(configure(warmup_steps=10))
    rise = [factor(step, 110) for step in range(10)]
    assert rise == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factor(10, 110) == pytest.approx(1)
    assert factor(60, 110) == pytest.approx(0.5)
    assert factor(110, 110) == pytest.approx(0, abs=1e-12)
    fall = [factor(step, 110) for step in range(10, 111)]
    assert fall == sorted(fall, reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "multistep", "constant", "one-cycle"])
@pytest.mark.parametrize(("warmup", "total"), [(0, 100), (200, 100), (5, 1), (0, 0), (200, 3)])
def test_schedules_of_odd_lengths_stay_in_range(schedule: Any, warmup: int, total: int) -> None:
    factor = build_schedule(configure(schedule=schedule, warmup_steps=warmup))
    values = [factor(step, total) for step in range(total + 5)]
    assert all(0 <= value <= 1 for value in values)
    if total == 100:
        assert max(values) == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"schedule": "linear"}, {0: 1.0, 1: 1.0, 34: 2 / 3, 67: 1 / 3, 100: 0.0}),
        ({"schedule": "constant"}, {0: 1.0, 50: 1.0, 100: 1.0}),
        ({"schedule": "step", "lr_step_epochs": 3}, {29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01, 95: 0.001}),
        (
            {"schedule": "multistep", "lr_milestones": (5.0, 8.0), "lr_decay": 0.5},
            {49: 1.0, 50: 0.5, 79: 0.5, 80: 0.25},
        ),
    ],
)
def test_schedules_after_the_warm_up(values: dict[str, Any], expected: dict[int, float]) -> None:
    """Of 10 epochs of 10 steps."""
    factor = build_schedule(configure(epochs=10, warmup_steps=0, **values))
    assert {step: factor(step, 100) for step in expected} == pytest.approx(expected, abs=1e-9)


def test_a_short_run_warms_up_for_a_quarter_at_most() -> None:
    assert warmup_length(200, 100) == 25
    assert warmup_length(0, 100) == 1


def test_one_cycle_moves_rate_and_momentum_against_each_other() -> None:
    assert one_cycle(0, 100) == pytest.approx(0.04)
    assert one_cycle(30, 100) == pytest.approx(1)
    assert one_cycle(100, 100) == pytest.approx(0)
    assert one_cycle_momentum(0, 100) == pytest.approx(0.95)
    assert one_cycle_momentum(30, 100) == pytest.approx(0.85)
    assert one_cycle_momentum(100, 100) == pytest.approx(0.95)


# --- optimizers ---


def make_network() -> nn.Sequential:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(backbone, nn.Linear(4, 2))


def plan(network: nn.Module, total_steps: float = 16, **values: Any) -> Any:
    modules = {0.1: network[0], 1.0: network} if isinstance(network, nn.Sequential) else {1.0: network}
    return plan_optimization(configure(lr=0.01, warmup_steps=4, **values), modules, Task(total_steps))


@pytest.mark.parametrize(
    ("values", "kind", "settings"),
    [
        ({"optimizer": "sgd"}, torch.optim.SGD, {"momentum": 0}),
        ({"optimizer": "momentum", "nesterov": True}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"optimizer": "rmsprop", "momentum": 0.5}, torch.optim.RMSprop, {"momentum": 0.5}),
        ({"optimizer": "adam", "betas": (0.8, 0.99)}, torch.optim.Adam, {"betas": (0.8, 0.99)}),
        ({}, torch.optim.AdamW, {"betas": (0.9, 0.999), "weight_decay": 0.05}),
    ],
)
def test_optimizers_by_name(values: dict[str, Any], kind: type, settings: dict[str, Any]) -> None:
    optimizer = plan(nn.Linear(2, 2), **values)["optimizer"]
    assert type(optimizer) is kind
    assert {key: optimizer.param_groups[0][key] for key in settings} == settings


def test_groups_by_rate_and_decay() -> None:
    network = make_network()
    groups = plan(network)["optimizer"].param_groups
    found = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    conv, norm, linear = network[0][0], network[0][1], network[1]  # type: ignore[index]
    assert found == {
        id(conv.weight): (pytest.approx(0.001), 0.05),
        id(conv.bias): (pytest.approx(0.001), 0.0),
        id(norm.weight): (pytest.approx(0.001), 0.0),
        id(norm.bias): (pytest.approx(0.001), 0.0),
        id(linear.weight): (pytest.approx(0.01), 0.05),
        id(linear.bias): (pytest.approx(0.01), 0.0),
    }
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_frozen_parameters_are_left_out() -> None:
    network = make_network()
    network[0].requires_grad_(False)
    chosen = {id(p) for group in plan(network)["optimizer"].param_groups for p in group["params"]}
    assert chosen == {id(p) for p in network[1].parameters()}


def steps_of(configured: Any, count: int) -> list[dict[str, Any]]:
    """Return the first group's settings at each of the first steps."""
    assert configured["lr_scheduler"]["interval"] == "step"
    found = []
    for _ in range(count):
        found.append({**configured["optimizer"].param_groups[0], "params": None})
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    return found


def test_the_schedule_steps_with_every_batch() -> None:
    rates = [group["lr"] for group in steps_of(plan(nn.Linear(2, 2)), 5)]
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


@pytest.mark.parametrize(("optimizer", "key"), [("momentum", "momentum"), ("adamw", "betas"), ("sgd", None)])
def test_one_cycle_sets_the_momentum(optimizer: Any, key: str | None) -> None:
    groups = steps_of(plan(nn.Linear(2, 2), total_steps=10, optimizer=optimizer, schedule="one-cycle"), 10)
    assert groups[3]["lr"] == pytest.approx(0.01)
    if key:
        momenta = [group[key][0] if key == "betas" else group[key] for group in groups]
        assert momenta[0] == pytest.approx(0.95)
        assert momenta[3] == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.0}, "dropout must be in"),
        ({"betas": (0.9, 1.0)}, "betas must be"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, "set one of them to 0"),
        ({"patience": -1}, "patience must be >= 0"),
        ({"lr_decay": 0.0}, "lr_decay"),
        ({"lr_milestones": (5.0, 3.0)}, "rising order"),
        ({"nesterov": True}, "optimizer=momentum"),
        ({"precision": "fp16", "device": "cpu"}, "take bf16 or fp32"),
        ({"accumulate": 0}, "accumulate"),
    ],
)
def test_settings_out_of_range_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(**values)


# --- weight averaging ---


def average_of(ema: Ema, steps: int) -> float:
    """Return the share of the old mean after so many updates: the mean of 1 and 0."""
    function = ema._kwargs["avg_fn"]
    return float(function(torch.tensor(1.0), torch.tensor(0.0), steps))


def test_decay_grows_to_its_value() -> None:
    ema = Ema(0.99)
    decays = [average_of(ema, steps) for steps in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays[10] == pytest.approx(11 / 20)
    assert decays == sorted(decays)
    assert decays[-1] == pytest.approx(0.99)


def test_counts_are_copied_not_averaged() -> None:
    function = Ema(0.9)._kwargs["avg_fn"]
    assert function(torch.tensor(3), torch.tensor(8), 5).item() == 8
