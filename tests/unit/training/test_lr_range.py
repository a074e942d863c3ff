"""The range test finds the stability limit of a problem where it is known, and reads noisy curves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from tiny_run import TinyConfig, prepare, settings
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vision.errors import ConfigError, InvalidInputError
from vision.training.lr_range import find_learning_rate, read_curve, write_curve
from vision.training.optimization import plan_optimization
from vision.training.recipe import Parts

STEEPEST = 4.0  # gradient descent on 0.5 * STEEPEST * w^2 is stable up to a rate of 2 / STEEPEST


class Bowl(pl.LightningModule):
    """A quadratic in ten directions, the steepest of curvature STEEPEST; each batch has its own centre."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.total_steps = 1.0
        self.weights = nn.Parameter(torch.ones(10))
        self.register_buffer("curvature", torch.linspace(0.4, STEEPEST, 10))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        curvature = self.get_buffer("curvature")
        return 0.5 * (curvature * (self.weights - batch[0].mean(dim=0)).square()).sum()

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        """Lightning misses it otherwise."""

    def configure_optimizers(self) -> dict[str, object]:
        return plan_optimization(self.config, {1.0: self}, self)


def make_bowl(config: TinyConfig) -> Parts:
    noise = 0.1 * torch.randn(30, 10, generator=torch.Generator().manual_seed(0))
    loader: DataLoader[Any] = DataLoader(TensorDataset(noise), batch_size=1)
    return Parts(Bowl(config), loader, loader, monitor="none", summary="")


@pytest.mark.parametrize(("optimizer", "limit"), [("sgd", 2 / STEEPEST), ("momentum", 2 * 1.9 / STEEPEST)])
def test_the_limit_of_a_bowl_is_found(optimizer: Any, limit: float, tmp_path: Path) -> None:
    config = settings(tmp_path, optimizer=optimizer, weight_decay=0.0, ema_decay=0.0, clip_norm=0.0)
    found = find_learning_rate(config, make_bowl, low=1e-4, high=100.0, steps=100)
    assert found.diverged
    assert limit / 2 < found.largest_stable < limit * 2
    assert found.suggestion == found.largest_stable / 2 < limit


def test_the_run_and_its_folder_stay_untouched(tmp_path: Path) -> None:
    config = settings(tmp_path / "run", accumulate=2, batch_size=12, dropout=0.0)
    found = find_learning_rate(config, prepare(config), low=1e-4, steps=60)
    assert not (tmp_path / "run").exists()
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 60
    write_curve(found, tmp_path / "curve")
    with (tmp_path / "curve" / "lr_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == found.rates.tolist()
    assert (tmp_path / "curve" / "lr_curve.png").read_bytes().startswith(b"\x89PNG")


def synthetic(seed: int, noise: float) -> tuple[Any, Any]:
    """Return a curve that falls from 2 to 1 around 1e-3 and runs away from 1e-1 on."""
    rates = np.geomspace(1e-6, 10, 150)
    clean = 2 - 1 / (1 + (1e-3 / rates) ** 1.5) + (rates / 0.15) ** 3
    return rates, clean + np.random.default_rng(seed).normal(scale=noise, size=len(rates))


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_move_the_limit_much(seed: int) -> None:
    found = read_curve(*synthetic(seed, noise=0.1), diverged=True)
    assert 0.01 < found.largest_stable < 0.15


def test_infinite_losses_end_the_curve() -> None:
    rates, losses = synthetic(0, noise=0.0)
    losses[120:] = np.nan
    found = read_curve(rates, losses, diverged=True)
    assert len(found.rates) == 120


def test_a_curve_without_an_end_says_so() -> None:
    rates, losses = synthetic(0, noise=0.0)
    found = read_curve(rates[:80], losses[:80], diverged=False)
    assert not found.diverged
    assert found.largest_stable == rates[79]


@pytest.mark.parametrize(
    ("rates", "losses", "message"),
    [
        (np.geomspace(1e-6, 1, 50), np.ones(50), "must fall at some rate"),
        (np.geomspace(1e-6, 1, 50), np.linspace(1, 9, 50), "must fall at some rate"),
        (np.geomspace(1e-6, 1, 50), np.full(50, np.nan), "needs 10 finite losses, got 0"),
    ],
)
def test_curves_that_say_nothing_are_refused(rates: Any, losses: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_curve(rates, losses, diverged=False)


def test_an_empty_range_is_refused(tmp_path: Path) -> None:
    config = settings(tmp_path)
    with pytest.raises(ConfigError, match="0 < from < to"):
        find_learning_rate(config, prepare(config), low=1.0, high=0.1)
