"""A run of a network of a few weights, on which the engine is tested; also a program, for tests that kill it.

As a program: ``python tiny_run.py KEY=VALUE ...`` trains with these settings. Environment variables disturb it:
TINY_SLEEP_S lengthens each batch, TINY_FAIL_STEP raises at a step, TINY_NAN_STEP makes the loss NaN there, TINY_FIT is
what each validation measures. They are no settings, for a resumed run must keep its settings.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from vision.config import load_config
from vision.training.config import TrainingConfig
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process
from vision.training.recipe import Parts, Recipe
from vision.training.run import train
from vision.training.sampling import EpochSampler

SAMPLES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyConfig(TrainingConfig):
    """Settings of the tiny run."""

    name: str = "tiny"
    epochs: int = 3
    lr: float = 0.01
    dropout: float = 0.3
    warmup_steps: int = 2
    ema_decay: float = 0.9
    threads: int = 1
    device: str = "cpu"
    eval_every: int = 1
    batch_size: int = 4
    samples: int = SAMPLES
    workers: int = 0


class DisturbanceError(RuntimeError):
    """What ends a run in a test."""


class TinyDataset(TensorDataset):
    """Item ``epoch * length + index``, changed a little by the epoch as augmentation would."""

    def __getitem__(self, item: int) -> tuple[Tensor, ...]:
        epoch, index = divmod(item, len(self.tensors[0]))
        features, target = super().__getitem__(index)
        return features + 0.01 * epoch, target


class TinyTask(pl.LightningModule):
    """Regression with a batch norm (buffers) and dropout (random numbers)."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.total_steps = 1.0
        self.network = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(8, 1)
        )
        self.seen: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        features, target = batch
        self.seen += target[:, 0].tolist()
        time.sleep(float(os.environ.get("TINY_SLEEP_S", "0")))
        if self.global_step == int(os.environ.get("TINY_FAIL_STEP", "-1")):
            raise DisturbanceError
        loss = F.mse_loss(self.network(features).float(), target)
        self.log("loss", loss)
        return loss * (float("nan") if self.global_step == int(os.environ.get("TINY_NAN_STEP", "-1")) else 1.0)

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        features, target = batch
        loss = float(F.mse_loss(self.network(features).float(), target))
        fit = float(os.environ.get("TINY_FIT", from_first_process(-loss)))
        self.log("val_fit", fit, batch_size=len(target))

    def configure_optimizers(self) -> dict[str, object]:
        return plan_optimization(self.config, {1.0: self.network}, self)


def prepare(config: TinyConfig) -> Callable[[TinyConfig], Parts]:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(config.samples, 4, generator=generator)
    # Distinct targets, so that a test can tell the samples apart.
    targets = features.sum(dim=1, keepdim=True) + torch.arange(config.samples)[:, None] * 1e-3

    def make(config: TinyConfig) -> Parts:
        dataset = TinyDataset(features, targets)
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=config.batch_size,
            sampler=EpochSampler(len(dataset), config.seed),
            num_workers=config.workers,
        )
        validation: DataLoader[Any] = DataLoader(TensorDataset(features, targets), batch_size=config.samples)
        return Parts(TinyTask(config), loader, validation, monitor="val_fit", summary=f"{len(dataset)} samples")

    return make


def export(config: TinyConfig, parts: Parts) -> None:
    (config.out / "exported").write_text("1")


TINY = Recipe(TinyConfig, prepare, export)


def settings(out: Path, **changes: Any) -> TinyConfig:
    return TinyConfig(out=out, **changes)


def checkpoint(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def assert_same_state(left: Path, right: Path) -> None:
    """Check that two checkpoints agree bit for bit in weights, average, optimizer, schedule, counters and position."""
    one, two = checkpoint(left), checkpoint(right)
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        assert_same(one.get(key), two.get(key), key)
    assert one["global_step"] == two["global_step"]
    assert one["epoch"] == two["epoch"]
    for field in ("epoch", "batches", "finished"):
        assert one["stride32"][field] == two["stride32"][field]
    for name in one["callbacks"]:
        if name.startswith(("Patience", "BestCheckpoint")):
            assert_same(one["callbacks"][name], two["callbacks"][name], name)


def assert_same(one: Any, two: Any, place: str) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, two), place
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_same(one[key], two[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), place
        for index, pair in enumerate(zip(one, two, strict=True)):
            assert_same(*pair, f"{place}[{index}]")
    else:
        assert one == two, place


if __name__ == "__main__":
    try:
        train(TINY, load_config(None, TinyConfig, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
