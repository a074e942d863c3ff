"""A run that takes as long as it may: epochs planned from measured times, the rate annealed in time."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from vision.training.checkpoints import RunClock
from vision.training.processes import from_first_process

log = logging.getLogger(__name__)

# The end of a run validates once more, and the export measures the exported model again.
VALIDATIONS_AT_END = 2


def plan_epochs(left_s: float, *, step_s: float, steps: int, validation_s: float, eval_every: int) -> int:
    """Return the epochs that fit into ``left_s`` seconds, the last one begun included; at least 1.

    Args:
        left_s: seconds that are left. step_s: seconds of one batch. steps: batches in an epoch.
        validation_s: seconds of one validation. eval_every: epochs between validations.
    """
    training_s = left_s - VALIDATIONS_AT_END * validation_s
    return max(1, math.ceil(training_s / (steps * step_s + validation_s / eval_every)))


class TimeBudget(Callback):
    """Ends the run when its time is up, and anneals the learning rate by time where the steps come slower than planned.

    The time for the last validation and the export's, each as long as the longest so far, is kept free.
    """

    def __init__(self, budget_s: float, clock: RunClock, *, validation_s: float = 0.0) -> None:
        self.budget_s = budget_s
        self.clock = clock
        self.validation_s = validation_s
        self.spent = False
        self._planned_steps = 0.0
        self._validation_started = 0.0

    @property
    def training_s(self) -> float:
        """Seconds for training, without what the end needs."""
        return max(1e-3, self.budget_s - VALIDATIONS_AT_END * self.validation_s)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Remember the planned steps."""
        self._planned_steps = module.total_steps

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Shorten the schedule to the steps that the time allows; stop, with a validation, when it is up."""
        elapsed_s = from_first_process(self.clock.elapsed_s)
        # The schedule reads this: at the end of the time, the step at hand is the last one.
        module.total_steps = min(self._planned_steps, trainer.global_step * max(1.0, self.training_s / elapsed_s))
        if elapsed_s >= self.training_s and not self.spent:
            self.spent = True
            log.info("the time budget is spent after %.1f minutes, step %d", elapsed_s / 60, trainer.global_step)
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the stop watch."""
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the longest time of a validation."""
        self.validation_s = max(self.validation_s, time.monotonic() - self._validation_started)

    def state_dict(self) -> dict[str, Any]:
        """Return the time of a validation."""
        return {"validation_s": self.validation_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the time of a validation."""
        self.validation_s = state_dict["validation_s"]
