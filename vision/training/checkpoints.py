"""Checkpoints of a run: ``last.ckpt`` to resume from, ``best.ckpt`` to export; both appear whole or not at all."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from vision.config import to_dict
from vision.errors import DivergenceError, InvalidInputError
from vision.training.config import TrainingConfig
from vision.training.processes import any_process

log = logging.getLogger(__name__)
LAST, BEST = "last.ckpt", "best.ckpt"
RUN_KEY = "stride32"


@dataclass(frozen=True, slots=True)
class RunState:
    """What a checkpoint says of its run, beside Lightning's own state.

    Attributes:
        settings: the effective settings, as plain data.
        epoch: the epoch in which the run goes on. batches: how many of its batches are done.
        elapsed_s: seconds of training so far, all starts together.
        finished: why the run is over: "epochs", "patience" or "budget"; empty while it is not.
    """

    settings: dict[str, Any]
    epoch: int
    batches: int
    elapsed_s: float
    finished: str = ""


def read_run_state(path: Path) -> RunState:
    """Return what the checkpoint ``path`` says of its run.

    Raises:
        InvalidInputError: the file is damaged or was written by something else.
    """
    advice = "remove it (or pass --no-resume) to start anew; best.ckpt, if there, holds the best weights so far"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as exc:  # torch raises whatever its readers met: RuntimeError, EOFError, UnpicklingError, ...
        raise InvalidInputError(
            f"{path} must be a checkpoint to resume from, it is damaged ({type(exc).__name__}); {advice}", path=path
        ) from exc
    found = checkpoint.get(RUN_KEY) if isinstance(checkpoint, Mapping) else None
    if not isinstance(found, Mapping) or found.keys() != RunState.__dataclass_fields__.keys():
        raise InvalidInputError(
            f"{path} must be a checkpoint of this version, it was written by another program or version; {advice}",
            path=path,
        )
    return RunState(**found)


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its name and renames it: a run killed while saving keeps the checkpoint before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        final = Path(path)
        part = final.with_name(final.name + ".part")
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(final)


class RunClock:
    """Seconds of training, over all starts of a run."""

    def __init__(self, elapsed_s: float = 0.0) -> None:
        self._started = time.monotonic() - elapsed_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run's first start, without the time between its starts."""
        return time.monotonic() - self._started


class BestCheckpoint(Checkpoint):
    """Saves ``best.ckpt`` after each validation that beats all before it by ``monitor``."""

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        self.path = folder / BEST
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.best: float | None = None

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save if the validation is the best so far; a metric that is no number never is."""
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise InvalidInputError(f"validation must log {self.monitor}, it logged {known}; correct the task")
        score = self.sign * float(trainer.callback_metrics[self.monitor])
        if score == score and (self.best is None or score > self.best):
            self.best = score
            trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score of the run so far."""
        self.best = state_dict["best"]


class LastCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` at the end of each epoch, and in between by time or steps or when the run is interrupted.

    Within an epoch it saves only after an optimizer step, and not at the last batch: what follows there (validation) is
    part of the epoch's end.
    """

    def __init__(
        self,
        config: TrainingConfig,
        clock: RunClock,
        *,
        finished: Callable[[pl.Trainer], str],
        interrupted: Callable[[], bool],
    ) -> None:
        self.path = config.out / LAST
        self.config = config
        self.clock = clock
        self.finished = finished
        self.interrupted = interrupted
        self._position = RunState(to_dict(config), 0, 0, 0.0)
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Count from here."""
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *arguments: Any) -> None:
        """Save if it is time to; raise KeyboardInterrupt if the run was interrupted."""
        batch_index: int = arguments[2]
        self._set_position(trainer.current_epoch, batch_index + 1)
        if (batch_index + 1) % self.config.accumulate or batch_index + 1 >= trainer.num_training_batches:
            return
        interrupted = self.interrupted()
        if interrupted or self._is_due(trainer.global_step):
            self._save(trainer, module)
        if interrupted:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save the end of the epoch; raise KeyboardInterrupt if the run was interrupted."""
        self._set_position(trainer.current_epoch + 1, 0, self.finished(trainer))
        self._save(trainer, module)
        if self.interrupted():
            raise KeyboardInterrupt

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add where the run stands."""
        checkpoint[RUN_KEY] = asdict(self._position)

    def _set_position(self, epoch: int, batches: int, finished: str = "") -> None:
        self._position = RunState(self._position.settings, epoch, batches, self.clock.elapsed_s, finished)

    def _is_due(self, step: int) -> bool:
        by_steps = self.config.checkpoint_steps and step - self._saved_step >= self.config.checkpoint_steps
        seconds = self.config.checkpoint_minutes * 60
        # The clocks of several processes differ, and saving is something that all do together.
        by_time = any_process(bool(seconds) and time.monotonic() - self._saved_at >= seconds)
        return bool(by_steps or by_time)

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        check_weights(trainer, module)
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step


def check_weights(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Raise DivergenceError when a trained weight is no finite number."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter).all()):
            raise diverged(trainer, f"the weights must be finite, {name} is not")


def diverged(trainer: pl.Trainer, what: str) -> DivergenceError:
    """Return the error that tells where a run left the finite numbers and what to do."""
    rate = max((group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups), default=0.0)
    return DivergenceError(
        f"{what}, in epoch {trainer.current_epoch} at step {trainer.global_step} with lr {rate:.2g}; lower lr "
        "(stride32 lr-find suggests one), raise warmup_steps, or look for broken boxes with stride32 data check; "
        "last.ckpt and best.ckpt are from before"
    )
