"""What happens around the steps of a run: seeds, checks of the loss, progress lines, the clean stop on Ctrl-C."""

from __future__ import annotations

import logging
import math
import random
import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from vision.training.checkpoints import check_weights, diverged
from vision.training.processes import any_process

log = logging.getLogger(__name__)


class StepSeeds(Callback):
    """Seeds Python, numpy and torch before each batch by (seed, process, epoch, batch).

    Random numbers of a step (dropout) then depend on nothing that went before, so a resumed run draws the same ones:
    a stored state of the generators would not do, for making a data loader draws from them as well.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Seed the generators."""
        place = (self.seed, trainer.global_rank, trainer.current_epoch, index)
        words = np.random.SeedSequence(place).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        torch.manual_seed(int(words[2]))


class LossGuard(Callback):
    """Stops a run whose loss or weights are no finite numbers, before they reach a checkpoint."""

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Raise DivergenceError when the loss is NaN or infinite; the weights are still those before."""
        if not math.isfinite(float(loss.detach())):
            raise diverged(trainer, f"the loss must be finite, got {float(loss.detach())}")

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Raise DivergenceError when the last step made the weights NaN or infinite."""
        check_weights(trainer, module)


class Interruption(Callback):
    """Notes Ctrl-C and SIGTERM, so that LastCheckpoint can save after the batch at hand before the run ends.

    A second signal ends it at once, with the checkpoint before. Threads other than the main one get no signals.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def requested(self) -> bool:
        """Return whether any of the run's processes got a signal."""
        return any_process(self._requested)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Listen for the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back; an error skips the other hooks."""
        self._give_back()

    def _give_back(self) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
        log.warning("stopping after this batch, or validation if it runs; again to stop at once")


class FinalValidation(Callback):
    """Validates the last epoch whatever ``eval_every`` says: what ends a run should be measured."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look whether the run goes on within its last epoch."""
        self.on_train_epoch_start(trainer, module)

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Ask for a validation at the end of the last epoch."""
        if trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


class PlainProgress(Callback):
    """Logs one line every so many steps and one for each validation; a log file needs no progress bar."""

    def __init__(self, every: int = 20) -> None:
        self.every = every
        self._logged_step = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Log the step's losses."""
        step = trainer.global_step
        if step % self.every == 0 and step != self._logged_step and trainer.is_global_zero:
            self._logged_step = step
            # The validation's last figures are among them; they have a line of their own.
            values = _numbers({k: v for k, v in trainer.logged_metrics.items() if not k.startswith("val_")})
            log.info("epoch %d step %d/%d %s", trainer.current_epoch, step, round(float(module.total_steps)), values)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the validation metrics."""
        if trainer.is_global_zero:
            log.info("epoch %d validation %s", trainer.current_epoch, _numbers(trainer.callback_metrics, prefix="val_"))


def _numbers(metrics: Any, prefix: str = "") -> str:
    return " ".join(f"{name}={float(value):.4f}" for name, value in metrics.items() if name.startswith(prefix))
