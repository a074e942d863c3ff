"""Optimizer, learning-rate schedule and weight averaging shared by all training tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.lr_scheduler import LambdaLR

from vision.training.config import TrainingConfig
from vision.training.schedules import build_schedule, one_cycle_momentum


class Planned(Protocol):
    """A training task; ``total_steps`` is the number of optimizer steps of its run.

    The engine sets it before the run, and lowers it on the way when a time budget ends the run sooner.
    """

    total_steps: float


def plan_optimization(config: TrainingConfig, modules: Mapping[float, nn.Module], task: Planned) -> dict[str, object]:
    """Return the configured optimizer and its per-step schedule in the form that Lightning expects.

    Args:
        config: names the optimizer and the schedule, with their numbers.
        modules: learning-rate factor -> module; a parameter belongs to the first module that holds it. Frozen ones are
            left out. Biases and norms (fewer than two dimensions) are not decayed.
        task: tells the steps of the whole run, at each step anew.
    """
    optimizer = _build_optimizer(config, parameter_groups(modules, lr=config.lr, weight_decay=config.weight_decay))
    factor = build_schedule(config)
    if config.schedule == "one-cycle":
        schedule: LambdaLR = OneCycle(
            optimizer,
            lambda step: factor(step, task.total_steps),
            lambda step: one_cycle_momentum(step, task.total_steps),
        )
    else:
        schedule = LambdaLR(optimizer, lambda step: factor(step, task.total_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(modules: Mapping[float, nn.Module], *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """Return the optimizer's groups by rate and by whether they decay; see ``plan_optimization``."""
    groups: list[dict[str, Any]] = []
    taken: set[int] = set()
    for factor, module in modules.items():
        fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
        taken.update(id(parameter) for parameter in fresh)
        for decay, chosen in (
            (weight_decay, [p for p in fresh if p.ndim > 1]),
            (0.0, [p for p in fresh if p.ndim <= 1]),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": lr * factor, "weight_decay": decay})
    return groups


def _build_optimizer(config: TrainingConfig, groups: list[dict[str, Any]]) -> TorchOptimizer:
    match config.optimizer:
        case "sgd":
            return SGD(groups, lr=config.lr)
        case "momentum":
            return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
        case "rmsprop":
            return RMSprop(groups, lr=config.lr, momentum=config.momentum)
        case "adam":
            return Adam(groups, lr=config.lr, betas=config.betas)
        case "adamw":
            return AdamW(groups, lr=config.lr, betas=config.betas)


class OneCycle(LambdaLR):
    """The rate of the one-cycle policy together with its momentum (Smith 2018): the one falls while the other rises.

    Momentum is ``momentum`` or the first of ``betas``; plain SGD has none, and only its rate moves.
    """

    def __init__(
        self, optimizer: TorchOptimizer, rate: Callable[[int], float], momentum: Callable[[int], float]
    ) -> None:
        self._momentum_at = momentum
        super().__init__(optimizer, rate)

    def state_dict(self) -> dict[str, Any]:
        """Return the state without the function, which the configuration gives again."""
        return {key: value for key, value in super().state_dict().items() if key != "_momentum_at"}

    def step(self, epoch: int | None = None) -> None:
        """Set rate and momentum of the next step."""
        super().step(epoch)
        momentum = self._momentum_at(self.last_epoch)
        for group in self.optimizer.param_groups:
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            elif group.get("momentum"):
                group["momentum"] = momentum


class Ema(WeightAveraging):
    """Exponential moving average of weights and batch statistics, in place during validation and in checkpoints.

    The decay grows from 0.1 to its value, min(decay, (1 + n) / (10 + n)), so that the random start is forgotten at
    once.
    """

    def __init__(self, decay: float) -> None:
        def average(mean: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
            steps = int(count)
            return (
                torch.lerp(value.to(mean.dtype), mean, min(decay, (1 + steps) / (10 + steps)))
                if mean.is_floating_point()
                else value
            )

        super().__init__(avg_fn=average)
