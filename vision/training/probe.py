"""Short measurements with the real network on real batches; nothing of them is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback

from vision.training.config import TrainingConfig
from vision.training.recipe import Parts
from vision.training.trainer import bare_trainer, deliberate_choices, fit

WARM_UP_STEPS, MEASURED_STEPS = 3, 12


def run_steps(
    config: TrainingConfig,
    parts: Parts,
    steps: int,
    callbacks: Sequence[Callback] = (),
    *,
    validate: bool = False,
    guard: bool = True,
) -> None:
    """Train ``parts`` for some optimizer steps, on one device and without writing anything; they are used up by it.

    Args:
        config: the settings. parts: what to train. steps: optimizer steps, unless a callback stops before.
        callbacks: what looks on.
        validate: validate once at the end.
        guard: raise DivergenceError when the loss is no finite number.
    """
    config = replace(config, devices=1, strategy="auto", time_budget_minutes=0.0)
    parts.task.total_steps = steps
    with deliberate_choices():
        trainer = bare_trainer(
            config,
            callbacks,
            guard=guard,
            max_epochs=-1,
            max_steps=steps,
            check_val_every_n_epoch=None,
            val_check_interval=steps * config.accumulate,
            limit_val_batches=1.0 if validate else 0,
            logger=False,
        )
        fit(trainer, parts)


class StepTimes(Callback):
    """Keeps the wall time of each training batch, loading included, and of the validations, in seconds."""

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self.validation_s = 0.0
        self._before = 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the stop watch."""
        self._before = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Keep the time since the batch before."""
        now = time.monotonic()
        self.steps_s.append(now - self._before)
        self._before = now

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the stop watch."""
        self._before = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the time of the validation."""
        self.validation_s = time.monotonic() - self._before


def measure_times(config: TrainingConfig, parts: Parts) -> tuple[float, float]:
    """Return the median seconds of a training batch and the seconds of a validation; ``parts`` are used up by it."""
    times = StepTimes()
    run_steps(replace(config, accumulate=1), parts, WARM_UP_STEPS + MEASURED_STEPS, [times], validate=True)
    return float(np.median(times.steps_s[WARM_UP_STEPS:])), times.validation_s
