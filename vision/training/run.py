"""A training run from settings to exported model, for every kind of model: plan, training, export."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch

from vision.config import load_config, to_toml
from vision.errors import ConfigError
from vision.training.auto_batch import largest_batch
from vision.training.checkpoints import BEST, LAST, RunClock, RunState
from vision.training.config import TrainingConfig
from vision.training.probe import measure_times
from vision.training.processes import is_first_process, is_launched_from_outside
from vision.training.recipe import Parts, Recipe
from vision.training.report.environment import record_start
from vision.training.resume import check_settings, find_run_state, is_over, settle
from vision.training.time_budget import plan_epochs
from vision.training.trainer import device_name, run_trainer

log = logging.getLogger(__name__)
CONFIG_FILE = "config.toml"
ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


def train(recipe: Recipe[ConfigT], config: ConfigT) -> Path:
    """Train and return the run folder: best.ckpt, last.ckpt, metrics/ (CSV), config.toml and the exported model folder.

    A run that was interrupted goes on where its last.ckpt stands and ends with the weights of an uninterrupted one.

    Raises:
        ConfigError: the settings contradict each other or those of the run that is to be resumed.
        InvalidInputError: the data or the checkpoint cannot be used; the message names the file.
        DivergenceError: the loss or a weight became NaN or infinite.
    """
    clock = RunClock()
    state = find_run_state(config)
    if not is_first_process():
        # Started by the first process (DDP), which has planned the run and written the plan.
        config = load_config(config.out / CONFIG_FILE, recipe.config)
    if state is not None:
        config = settle(config, state, batch_field=recipe.batch_field)
        check_settings(config, state)
    start_run(config)
    make = recipe.prepare(config)
    if state is None and is_first_process():
        config = _plan(recipe, config, make, clock)
        _write_settings(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    parts = make(config)
    if state is not None and is_over(config, state):
        log.info("the run in %s is over already (%s); exporting its best weights", config.out, state.finished)
    else:
        if state is None and is_first_process():
            # Those of a run before must not be taken for this one's.
            for name in (LAST, BEST):
                (config.out / name).unlink(missing_ok=True)
        _log_header(config, parts, state)
        if is_first_process():
            record_start(config.out, config)
        run_trainer(config, parts, state, elapsed_s=clock.elapsed_s)
    if is_first_process():
        recipe.export(config, parts)
    return config.out


def start_run(config: TrainingConfig) -> None:
    """Create the run folder, record the effective configuration in it and seed everything."""
    config.out.mkdir(parents=True, exist_ok=True)
    if is_first_process():
        _write_settings(config)
    prepare_process(config)


def prepare_process(config: TrainingConfig) -> None:
    """Set the threads of torch and seed everything."""
    if config.threads:
        torch.set_num_threads(config.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)


def _plan(recipe: Recipe[ConfigT], config: ConfigT, make: Any, clock: RunClock) -> ConfigT:
    """Return the settings with batch size and epochs as the memory and the time allow, where that was asked for."""
    if (config.auto_batch or config.time_budget_minutes) and is_launched_from_outside():
        raise ConfigError(
            "auto_batch and a time budget are planned by one process that then starts the others, got processes "
            "started by torchrun or a cluster; give the batch size and epochs, or start one process with devices=N"
        )
    if config.auto_batch:
        batch = largest_batch(config, make, field=recipe.batch_field)
        config = replace(config, **{recipe.batch_field: batch})  # type: ignore[arg-type]  # a name of a field
    if config.time_budget_minutes:
        parts = make(config)
        step_s, validation_s = measure_times(config, parts)
        epochs = plan_epochs(
            config.time_budget_minutes * 60 - clock.elapsed_s,
            step_s=step_s,
            steps=math.ceil(len(parts.loader) / config.devices),
            validation_s=validation_s,
            eval_every=config.eval_every,
        )
        log.info(
            "%.3g minutes: about %d epochs, at %.2f s a batch and %.1f s a validation",
            *(config.time_budget_minutes, epochs, step_s, validation_s),
        )
        config = replace(config, epochs=epochs)
    return config


def _write_settings(config: TrainingConfig) -> None:
    (config.out / CONFIG_FILE).write_text(to_toml(config))


def _log_header(config: TrainingConfig, parts: Parts, state: RunState | None) -> None:
    """Log what is trained on what, in a few lines."""
    if not is_first_process():
        return
    batches = math.ceil(len(parts.loader) / config.devices)
    steps = config.epochs * math.ceil(batches / config.accumulate)
    weights = [parameter for parameter in parts.task.parameters()]
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    log.info("training on %s", parts.summary)
    log.info("%d epochs of %d batches, %d steps; %s, %s, lr %g", config.epochs, batches, steps, config.optimizer,
             config.schedule, config.lr)  # fmt: skip
    log.info("%.2f M weights, %.2f M of them trained; %s", sum(weight.numel() for weight in weights) / 1e6,
             trained / 1e6, device_name(config))  # fmt: skip
    if state is not None:
        log.info("going on from epoch %d, batch %d", state.epoch, state.batches)


def best_weights(out: Path, prefix: str = "network.", *, checkpoint: str = BEST) -> dict[str, torch.Tensor]:
    """Return the network's (averaged) weights of the run's best checkpoint, or another, names without the prefix."""
    path = out / checkpoint
    saved = torch.load(path if path.is_file() else out / LAST, map_location="cpu", weights_only=True)
    state = saved["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def read_metrics(out: Path) -> dict[str, float]:
    """Return the metrics written by ``write_metrics``."""
    values: dict[str, float] = json.loads((out / "metrics.json").read_text())
    return values


def write_metrics(out: Path, metrics: dict[str, float]) -> None:
    """Write the final metrics of a run."""
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics without those of what does not occur (NaN), which JSON cannot say."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
