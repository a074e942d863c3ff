"""The schedule's shape, parameter groups, and weight averaging."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vision.training.optimization import Ema, build_optimizer, warmup_cosine


def test_schedule_rises_linearly_and_falls_to_zero() -> None:
    factor = warmup_cosine(10, 110)
    rise = [factor(step) for step in range(10)]
    assert rise == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factor(10) == pytest.approx(1)
    assert factor(60) == pytest.approx(0.5)
    assert factor(110) == pytest.approx(0, abs=1e-12)
    fall = [factor(step) for step in range(10, 111)]
    assert fall == sorted(fall, reverse=True)


@pytest.mark.parametrize(("warmup", "total"), [(0, 100), (200, 100), (5, 1), (0, 0), (200, 3)])
def test_schedule_of_odd_lengths_stays_in_range(warmup: int, total: int) -> None:
    factor = warmup_cosine(warmup, total)
    values = [factor(step) for step in range(total + 5)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) == pytest.approx(1)


def test_a_short_run_warms_up_for_a_quarter_at_most() -> None:
    factor = warmup_cosine(200, 100)
    assert factor(24) == pytest.approx(1)
    assert factor(90) < 0.1


def make_network() -> nn.Sequential:
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(backbone, nn.Linear(4, 2))


def groups_of(network: nn.Module) -> list[dict[str, Any]]:
    configured = build_optimizer(
        {0.1: network[0], 1.0: network},  # type: ignore[index]
        lr=0.01,
        weight_decay=0.05,
        warmup_steps=4,
        total_steps=16,
    )
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, torch.optim.AdamW)
    return optimizer.param_groups


def test_groups_by_rate_and_decay() -> None:
    network = make_network()
    groups = groups_of(network)
    found = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    conv, norm, linear = network[0][0], network[0][1], network[1]
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
    chosen = {id(p) for group in groups_of(network) for p in group["params"]}
    assert chosen == {id(p) for p in network[1].parameters()}


def test_the_schedule_steps_with_every_batch() -> None:
    configured: Any = build_optimizer({1.0: nn.Linear(2, 2)}, lr=1.0, weight_decay=0, warmup_steps=4, total_steps=16)
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(5):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def average_of(ema: Ema, steps: int, limit: float) -> float:
    """Return the share of the old mean after so many updates: the mean of 1 and 0."""
    function = ema._kwargs["avg_fn"]
    return float(function(torch.tensor(1.0), torch.tensor(0.0), steps))


def test_decay_grows_to_its_value() -> None:
    ema = Ema(0.99)
    decays = [average_of(ema, steps, 0.99) for steps in range(2000)]
    assert decays[0] == pytest.approx(0.1)
    assert decays[10] == pytest.approx(11 / 20)
    assert decays == sorted(decays)
    assert decays[-1] == pytest.approx(0.99)


def test_counts_are_copied_not_averaged() -> None:
    function = Ema(0.9)._kwargs["avg_fn"]
    assert function(torch.tensor(3), torch.tensor(8), 5).item() == 8
