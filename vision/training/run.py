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


def start_run(out: Path, config: Any, *, seed: int, threads: int) -> None:
    """Create the run folder, record the effective configuration in it and seed everything."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.toml").write_text(to_toml(config))
    if threads:
        torch.set_num_threads(threads)
    pl.seed_everything(seed, workers=True, verbose=False)


def build_trainer(
    out: Path,
    *,
    epochs: int,
    monitor: str,
    ema_decay: float,
    clip_norm: float | None,
    device: str,
    precision: str,
    eval_every: int,
) -> pl.Trainer:
    """Return the Lightning trainer of a run: best checkpoint by ``monitor`` (larger is better), last checkpoint each
    epoch."""
    # Each filter names a notice that is about our deliberate choices, not about a fault.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*")
    best = ModelCheckpoint(
        out, filename="best", monitor=monitor, mode="max", save_last=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [best, LearningRateMonitor("step"), PlainProgress()]
    if ema_decay > 0:
        callbacks.append(Ema(ema_decay))
    return pl.Trainer(
        default_root_dir=out,
        max_epochs=epochs,
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
        devices="auto" if device != "cpu" else 1,
        precision=precision,
        gradient_clip_val=clip_norm,
        check_val_every_n_epoch=eval_every,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=CSVLogger(out, name="", version="metrics"),
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def resume_path(out: Path, resume: bool) -> Path | None:
    """Return the last checkpoint of a run to continue from, or None to start anew."""
    path = out / LAST
    return path if resume and path.is_file() else None


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
