"""Learning-rate range test (Smith 2015, "Cyclical learning rates", section 3.3): how high the rate may go.

The rate grows by a constant factor from step to step until the loss runs away. What the run learns is thrown away.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from vision.errors import ConfigError, InvalidInputError
from vision.figures import LIGHT, add_legend, new_figure, save_figure
from vision.training.config import TrainingConfig
from vision.training.probe import run_steps
from vision.training.recipe import Parts
from vision.types import FloatArray

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

CURVE_CSV, CURVE_PNG = "lr_curve.csv", "lr_curve.png"
# A run whose smoothed loss is this many times its first value above its lowest has diverged.
DIVERGED = 3.0
SMOOTHING = 0.9
# The loss may rise by this share of its whole fall, and by twice its noise, and still count as being at its lowest.
TOLERANCE = 0.02
# Less of a fall than this share of the first loss is no learning.
LEAST_FALL = 0.02


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a range test found.

    Attributes:
        rates, losses: [N] the rate of each step and the loss of its batches, up to where it ran away.
        smoothed: [N] the losses without their noise, and without the delay of a running mean.
        largest_stable: the largest rate at which the loss is still at its lowest.
        diverged: whether the loss ran away; otherwise the largest stable rate may lie beyond the range.
    """

    rates: FloatArray
    losses: FloatArray
    smoothed: FloatArray
    largest_stable: float
    diverged: bool

    @property
    def suggestion(self) -> float:
        """Half of the largest stable rate."""
        return self.largest_stable / 2


def find_learning_rate(
    config: ConfigT,
    make: Callable[[ConfigT], Parts],
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 150,
) -> RangeTest:
    """Train with a rate that grows from ``low`` to ``high``, and return the curve and the largest stable rate.

    Args:
        config: settings of the run; averaging and clipping are left as they are, schedule and lr are replaced.
        make: makes the parts of a run, as a Recipe's ``prepare`` returns it.
        low, high: first and last rate of the parts whose factor is 1.
        steps: optimizer steps over the whole range.

    Raises:
        ConfigError: the range is empty or too few steps were asked for.
        InvalidInputError: the loss did not fall at any rate.
    """
    if not 0 < low < high or steps < 20:
        raise ConfigError(
            f"a range test needs 0 < from < to and 20 steps or more, got {low:g}, {high:g} and {steps}; "
            "1e-6, 10 and 150 are the defaults"
        )
    flat = replace(config, lr=low, schedule="constant", warmup_steps=0, time_budget_minutes=0.0)
    ramp = Ramp(low, (high / low) ** (1 / (steps - 1)))
    # Losses that run away are what is looked for: the ramp stops the run, not the guard.
    run_steps(flat, make(flat), steps, [ramp], guard=False)
    return read_curve(np.asarray(ramp.rates), np.asarray(ramp.losses), diverged=ramp.diverged)


class Ramp(Callback):
    """Sets the rate of each optimizer step, keeps the losses, and stops the run when they run away."""

    def __init__(self, low: float, growth: float) -> None:
        self.low = low
        self.growth = growth
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.diverged = False
        self._batches: list[float] = []
        self._mean = 0.0
        self._lowest = math.inf

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Set the rate; a group keeps its factor."""
        factor = self.growth**trainer.global_step
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss of one batch, which Lightning has divided for accumulation."""
        self._batches.append(float(loss.detach()) * trainer.accumulate_grad_batches)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """After an optimizer step, keep its rate and loss; stop when the loss has run away."""
        if trainer.global_step == len(self.rates):
            return
        loss = float(np.mean(self._batches))
        self._batches.clear()
        self.rates.append(self.low * self.growth ** len(self.rates))
        self.losses.append(loss)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * loss
        smoothed = self._mean / (1 - SMOOTHING ** len(self.losses))
        self._lowest = min(self._lowest, smoothed)
        if not math.isfinite(loss) or smoothed - self._lowest > DIVERGED * abs(self.losses[0]):
            self.diverged = True
            trainer.should_stop = True


def read_curve(rates: FloatArray, losses: FloatArray, *, diverged: bool) -> RangeTest:
    """Return what a curve of losses [N] over rates [N] says; see ``RangeTest``.

    Raises:
        InvalidInputError: the loss did not fall.
    """
    finite = np.isfinite(losses)
    count = int(np.argmin(finite)) if not finite.all() else len(losses)
    rates, losses = rates[:count], losses[:count]
    if count < 10:
        raise InvalidInputError(
            f"a range test needs 10 finite losses, got {count}; begin at a lower rate (--from), or check the data"
        )
    # What runs away at the end must not reach back through the smoothing: it counts as the first loss.
    capped = np.minimum(losses, losses[:3].max() * (1 + DIVERGED))
    width = max(1.0, count / 50)
    smoothed = gaussian_filter1d(capped.astype(np.float64), sigma=width, mode="nearest")
    lowest = int(smoothed.argmin())
    # From second differences, which a steady fall leaves alone; a Gaussian mean of losses keeps this much of it.
    single = 1.48 * float(np.median(np.abs(np.diff(capped[: lowest + 3], n=2)))) / math.sqrt(6)
    noise = single / math.sqrt(2 * math.sqrt(math.pi) * width)
    start = float(smoothed[: lowest + 1].max())
    fall = start - float(smoothed[lowest])
    if fall < max(LEAST_FALL * abs(start), 2 * noise):
        raise InvalidInputError(
            f"the loss must fall at some rate, it fell from {start:.4g} to {smoothed[lowest]:.4g} at most; "
            "begin at a lower rate (--from), take more steps (--steps), or check the data (stride32 data check)"
        )
    above = np.flatnonzero(smoothed[lowest:] > smoothed[lowest] + TOLERANCE * fall + 2 * noise)
    last = lowest + int(above[0]) - 1 if len(above) else count - 1
    return RangeTest(rates, losses, smoothed, float(rates[last]), diverged or bool(len(above)))


def write_curve(test: RangeTest, folder: Path) -> None:
    """Write the curve as ``lr_curve.csv`` and ``lr_curve.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / CURVE_CSV).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["lr", "loss", "smoothed"])
        writer.writerows(zip(test.rates.tolist(), test.losses.tolist(), test.smoothed.tolist(), strict=True))
    figure, (axes,) = new_figure(LIGHT, size_in=(7.2, 4.2))
    blue, orange, green = LIGHT.colours[:3]
    low, high = float(test.smoothed.min()), float(test.smoothed[0])
    shown = low - 0.15 * (high - low), high + 0.5 * (high - low)
    axes.plot(test.rates, np.clip(test.losses, *shown), ".", color=LIGHT.muted, alpha=0.5, label="loss of a step")
    axes.plot(test.rates, np.clip(test.smoothed, *shown), color=blue, label="smoothed")
    axes.axvline(
        test.largest_stable, color=orange, linestyle=":", label=f"largest stable rate {test.largest_stable:.2g}"
    )
    axes.axvline(test.suggestion, color=green, label=f"suggestion {test.suggestion:.2g}")
    axes.set_ylim(shown)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.set_title("Learning-rate range test")
    add_legend(axes, LIGHT, loc="upper left")
    save_figure(figure, folder / CURVE_PNG)
