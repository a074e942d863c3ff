"""Optimizer, learning-rate schedule and weight averaging shared by all training tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR


def build_optimizer(
    modules: Mapping[float, nn.Module], *, lr: float, weight_decay: float, warmup_steps: int, total_steps: int
) -> dict[str, object]:
    """Return AdamW (Loshchilov and Hutter 2019) and its per-step schedule in the form that Lightning expects.

    Args:
        modules: learning-rate factor -> module; a parameter belongs to the first module that holds it. Frozen ones are
            left out.
        lr: peak learning rate at factor 1.
        weight_decay: for weights of two or more dimensions; biases and norms are not decayed.
        warmup_steps: steps of the linear warm-up.
        total_steps: steps of the whole run; the cosine ends at zero.
    """
    groups = []
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
    optimizer = AdamW(groups)
    schedule = LambdaLR(optimizer, warmup_cosine(warmup_steps, total_steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Return the factor on the peak rate at each step: linear from near 0 to 1, then a half cosine to 0."""
    warmup = max(1, min(warmup_steps, total_steps // 4))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))

    return factor


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
