"""A training run on disk: folder, seed, callbacks, and the Lightning trainer that every task uses."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from vision.config import to_toml
from vision.training.config import TrainingConfig
from vision.training.optimization import Ema

log = logging.getLogger(__name__)
LAST = "last.ckpt"


class PlainProgress(Callback):
    """Logs one line every so many steps and one for each validation; a log file needs no progress bar."""

    def __init__(self, every: int = 20) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        """Log the step's losses."""
        if trainer.global_step % self.every == 0:
            values = _numbers(trainer.logged_metrics)
            log.info(
                "epoch %d step %d/%s %s",
                trainer.current_epoch,
                trainer.global_step,
                trainer.estimated_stepping_batches,
                values,
            )

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the validation metrics."""
        log.info("epoch %d validation %s", trainer.current_epoch, _numbers(trainer.callback_metrics, prefix="val_"))


def _numbers(metrics: Any, prefix: str = "") -> str:
    return " ".join(f"{name}={float(value):.4f}" for name, value in metrics.items() if name.startswith(prefix))


def start_run(config: TrainingConfig) -> None:
    """Create the run folder, record the effective configuration in it and seed everything."""
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "config.toml").write_text(to_toml(config))
    if config.threads:
        torch.set_num_threads(config.threads)
    pl.seed_everything(config.seed, workers=True, verbose=False)


def fit(config: TrainingConfig, task: pl.LightningModule, loader: Any, validation: Any, *, monitor: str) -> None:
    """Train ``task``, from the run's last checkpoint if there is one and the configuration says so."""
    last = config.out / LAST
    resume_from = last if config.resume and last.is_file() else None
    with warnings.catch_warnings():
        _ignore_deliberate_choices()
        trainer = _build_trainer(config, monitor)
        try:
            trainer.fit(task, loader, validation, ckpt_path=resume_from, weights_only=True)
        except SystemExit:
            # Lightning tidies up after Ctrl-C and then exits with 1; our exit code for it is 130.
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise


def _ignore_deliberate_choices() -> None:
    """Silence Lightning's notices of what is meant so, and a deprecation inside Lightning itself."""
    for message in (
        r".*does not have many workers.*",
        r".*Checkpoint directory .* exists and is not empty.*",
        # Frozen stages are in evaluation mode: their batch statistics must not drift.
        r"Found \d+ module\(s\) in eval mode.*",
        r".*The number of training batches .* is smaller than the logging interval.*",
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)


def _build_trainer(config: TrainingConfig, monitor: str) -> pl.Trainer:
    """Return the Lightning trainer: best checkpoint by ``monitor`` (larger is better), last one each epoch."""
    best = ModelCheckpoint(config.out, filename="best", monitor=monitor, mode="max", enable_version_counter=False)
    # One of its own: save_last of the other saves only when that one does, and a resumed run would repeat epochs.
    last = ModelCheckpoint(config.out, filename=Path(LAST).stem, enable_version_counter=False)
    callbacks: list[Callback] = [best, last, LearningRateMonitor("step"), PlainProgress()]
    if config.ema_decay > 0:
        callbacks.append(Ema(config.ema_decay))
    return pl.Trainer(
        default_root_dir=config.out,
        max_epochs=config.epochs,
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[config.device],
        devices="auto" if config.device != "cpu" else 1,
        precision=config.precision,
        gradient_clip_val=config.clip_norm,
        check_val_every_n_epoch=min(config.eval_every, config.epochs),
        num_sanity_val_steps=0,
        callbacks=callbacks,
        # A folder for each start of the run: a resumed run must not delete the curves before it.
        logger=CSVLogger(config.out, name="metrics"),
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def best_weights(out: Path, prefix: str = "network.") -> dict[str, torch.Tensor]:
    """Return the network's (averaged) weights of the run's best checkpoint, names without the task's prefix."""
    path = out / "best.ckpt"
    checkpoint = torch.load(path if path.is_file() else out / LAST, map_location="cpu", weights_only=True)
    state = checkpoint["state_dict"]
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def read_metrics(out: Path) -> dict[str, float]:
    """Return the metrics written by ``write_metrics``."""
    values: dict[str, float] = json.loads((out / "metrics.json").read_text())
    return values


def write_metrics(out: Path, metrics: dict[str, float]) -> None:
    """Write the final metrics of a run."""
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
