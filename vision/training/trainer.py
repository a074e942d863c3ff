"""The Lightning trainer that every task uses, and one call of it: a run, resumed exactly, or a short measurement."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor
from torch.utils.data import DataLoader

from vision.errors import ConfigError
from vision.training.callbacks import FinalValidation, Interruption, LossGuard, PlainProgress, StepSeeds
from vision.training.checkpoints import LAST, AtomicCheckpoints, BestCheckpoint, LastCheckpoint, RunClock, RunState
from vision.training.config import TrainingConfig
from vision.training.optimization import Ema
from vision.training.recipe import Parts
from vision.training.report.loggers import run_loggers
from vision.training.sampling import TrainingSampler
from vision.training.time_budget import TimeBudget

PRECISIONS = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}


def run_trainer(
    config: TrainingConfig,
    parts: Parts,
    state: RunState | None = None,
    *,
    elapsed_s: float = 0.0,
    callbacks: Sequence[Callback] = (),
    keep: bool = True,
) -> None:
    """Train to the end of the run.

    Args:
        config: the settings. parts: what to train.
        state: where an interrupted run stands, to go on from its last.ckpt; None starts anew.
        elapsed_s: seconds of the time budget that were spent before this call.
        callbacks: further ones, before those that save checkpoints.
        keep: write checkpoints and metrics into the run folder.

    Raises:
        DivergenceError: the loss or a weight became NaN or infinite.
        KeyboardInterrupt: on Ctrl-C, when last.ckpt is written.
    """
    clock = RunClock(state.elapsed_s if state else elapsed_s)
    with deliberate_choices():
        trainer = build_trainer(config, parts, clock, callbacks, keep=keep)
        place_in_data(parts.loader, trainer, state)
        parts.task.total_steps = config.epochs * math.ceil(len(parts.loader) / config.accumulate)
        fit(trainer, parts, resume_from=config.out / LAST if state else None)


def fit(trainer: pl.Trainer, parts: Parts, *, resume_from: Path | None = None) -> None:
    """Train ``parts``; Ctrl-C comes out as KeyboardInterrupt."""
    try:
        trainer.fit(parts.task, parts.loader, parts.validation, ckpt_path=resume_from, weights_only=True)
    except SystemExit:
        # Lightning tidies up after Ctrl-C and then exits with 1; our exit code for it is 130.
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


def build_trainer(
    config: TrainingConfig, parts: Parts, clock: RunClock, extra: Sequence[Callback], *, keep: bool
) -> pl.Trainer:
    """Return the trainer of a whole run with all its callbacks, in the order that they rely on."""
    interruption = Interruption()
    callbacks: list[Callback] = [FinalValidation(), PlainProgress()]
    budget = TimeBudget(config.time_budget_minutes * 60, clock) if config.time_budget_minutes else None
    stopping = early_stopping(config, parts)
    callbacks += [callback for callback in (budget, stopping) if callback is not None]

    def finished(trainer: pl.Trainer) -> str:
        if budget is not None and budget.spent:
            return "budget"
        if stopping is not None and stopping.wait_count >= stopping.patience:
            return "patience"
        return "epochs" if trainer.current_epoch + 1 >= config.epochs else ""

    callbacks += extra
    if keep:
        callbacks += [
            interruption,
            LearningRateMonitor("step"),
            BestCheckpoint(config.out, parts.monitor, parts.mode),
            LastCheckpoint(config, clock, finished=finished, interrupted=interruption.requested),
        ]
    return bare_trainer(
        config,
        callbacks,
        max_epochs=config.epochs,
        check_val_every_n_epoch=min(config.eval_every, config.epochs),
        logger=run_loggers(config.out) if keep else False,
    )


def bare_trainer(
    config: TrainingConfig, callbacks: Sequence[Callback], *, guard: bool = True, **options: Any
) -> pl.Trainer:
    """Return a trainer with what belongs to each training step: device, precision, clipping, seeds, averaging.

    Args:
        config: the settings. callbacks: further ones.
        guard: raise DivergenceError when the loss is no finite number.
        options: of the Lightning trainer, in place of ours.
    """
    basic: list[Callback] = [StepSeeds(config.seed), *([LossGuard()] if guard else [])]
    if config.ema_decay > 0:
        basic.append(Ema(config.ema_decay))
    defaults: dict[str, Any] = {
        "default_root_dir": config.out,
        "accelerator": {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        "devices": config.devices,
        "strategy": "ddp" if config.devices > 1 and config.strategy == "auto" else config.strategy,
        "precision": PRECISIONS.get(config.precision, config.precision),
        "accumulate_grad_batches": config.accumulate,
        "gradient_clip_val": config.clip_norm or config.clip_value or None,
        "gradient_clip_algorithm": "value" if config.clip_value else "norm",
        "deterministic": config.deterministic,
        # The samplers share the data themselves: no picture is shown twice.
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "callbacks": [*basic, *callbacks],
        "plugins": [AtomicCheckpoints()],
        "log_every_n_steps": 10,
        "enable_checkpointing": any(isinstance(callback, LastCheckpoint) for callback in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**{**defaults, **options})


class Patience(EarlyStopping):
    """Early stopping whose patience is the one configured now, also in a resumed run; the count is kept."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of the run so far."""
        super().load_state_dict({**state_dict, "patience": self.patience})


def early_stopping(config: TrainingConfig, parts: Parts) -> Patience | None:
    """Return the callback that ends a run which no longer gets better, or None; it counts validations."""
    if not config.patience:
        return None
    return Patience(
        parts.monitor, mode=parts.mode, patience=config.patience, check_on_train_epoch_end=False, verbose=False
    )


def place_in_data(loader: DataLoader[Any], trainer: pl.Trainer, state: RunState | None) -> None:
    """Give this process its share of the training data, from the batch where the run stands."""
    if loader.num_workers and loader.worker_init_fn is None:
        loader.worker_init_fn = _ignore_interrupts
    sampler = loader.sampler
    if not isinstance(sampler, TrainingSampler):
        if trainer.world_size > 1 or (state and state.batches):
            raise ConfigError(
                f"several devices and resuming need a sampler with set_epoch, skip and shard, got "
                f"{type(sampler).__name__}; use vision.training.sampling.EpochSampler"
            )
        return
    sampler.shard(trainer.global_rank, trainer.world_size)
    if state:
        # Workers draw their first samples before Lightning says which epoch it is.
        sampler.set_epoch(state.epoch)
        # An entry of the sampler is a sample, or a whole batch where the loader does not make batches.
        sampler.skip(state.epoch, state.batches * (loader.batch_size or 1))


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to all, to the training process: it still wants the batch at hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def deliberate_choices() -> Iterator[None]:
    """Silence Lightning's notices of what is meant so, its greetings, and a deprecation inside Lightning itself."""
    greetings = logging.getLogger("lightning.pytorch")
    level = greetings.level
    greetings.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            r".*does not have many workers.*",
            r".*Checkpoint directory .* exists and is not empty.*",
            # Frozen stages are in evaluation mode: their batch statistics must not drift.
            r"Found \d+ module\(s\) in eval mode.*",
            r".*The number of training batches .* is smaller than the logging interval.*",
            r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
            # It can: the sampler leaves out what was trained.
            r"You're resuming from a checkpoint that ended before the epoch ended.*",
            # Each task brings the first process's metrics to all.
            r".*It is recommended to use `self\.log\(.*sync_dist=True\)`.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            greetings.setLevel(level)


def device_name(config: TrainingConfig) -> str:
    """Return where the run takes place, in words for the log."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    kind = torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads"
    count = f"{config.devices} x " if config.devices > 1 else ""
    return f"{count}{kind}, {PRECISIONS.get(config.precision, config.precision)}"
