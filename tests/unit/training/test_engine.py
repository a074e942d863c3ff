"""What the engine adds to a run: optimizers, precision, early stopping, time budget, batch size, processes."""

from __future__ import annotations

import dataclasses
import logging
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from tiny_run import TINY, checkpoint, prepare, settings

from vision.errors import ConfigError
from vision.training import auto_batch
from vision.training.auto_batch import search_by_failure, search_by_peak
from vision.training.memory import PeakMemory, available_bytes, resident_bytes
from vision.training.run import train
from vision.training.sampling import EpochSampler
from vision.training.time_budget import plan_epochs

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "sgd", "schedule": "constant"},
        {"optimizer": "rmsprop", "schedule": "linear", "clip_norm": 0.0, "clip_value": 0.1},
        {"optimizer": "adam", "schedule": "one-cycle", "precision": "bf16", "accumulate": 2},
    ],
)
def test_choices_train(values: dict[str, Any], tmp_path: Path) -> None:
    config = settings(tmp_path, epochs=2, ema_decay=0.0, **values)
    train(TINY, config)
    found = checkpoint(tmp_path / "best.ckpt")
    start = prepare(config)(config).task.state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in found["state_dict"].items())
    assert found["global_step"] == 12 // config.accumulate


def test_patience_counts_validations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing gets better: the second and third validation say so, after epochs 4 and 6."""
    monkeypatch.setenv("TINY_FIT", "-1")
    config = settings(tmp_path, epochs=30, patience=2, eval_every=2)
    train(TINY, config)
    state = checkpoint(tmp_path / "last.ckpt")["stride32"]
    assert (state["finished"], state["epoch"]) == ("patience", 6)
    assert checkpoint(tmp_path / "best.ckpt")["global_step"] == 12
    before = (tmp_path / "last.ckpt").stat().st_mtime_ns
    train(TINY, config)
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == before
    train(TINY, dataclasses.replace(config, patience=4))  # more of it revives the run
    assert checkpoint(tmp_path / "last.ckpt")["stride32"]["epoch"] == 10


# --- time budget ---


def test_a_time_budget_ends_the_run_annealed_and_validated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TINY_SLEEP_S", "0.02")
    config = settings(tmp_path, time_budget_minutes=0.05)
    with caplog.at_level(logging.INFO, logger="vision"):
        train(TINY, config)
    found = checkpoint(tmp_path / "last.ckpt")
    # The clock began before the measurement; an idle machine takes the 3 s, a busy one a little more.
    assert 2 < found["stride32"]["elapsed_s"] < 20
    assert found["lr_schedulers"][0]["_last_lr"][0] < 0.2 * config.lr
    assert (tmp_path / "best.ckpt").is_file()
    assert f"epochs = {found['stride32']['settings']['epochs']}\n" in (tmp_path / "config.toml").read_text()
    steps = found["global_step"]
    train(TINY, config)  # it is over
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == steps


@pytest.mark.parametrize(
    ("left_s", "validation_s", "expected"),
    [(100, 0, 10), (101, 0, 11), (3, 0, 1), (120, 10, 7), (1, 10, 1)],
)
def test_planned_epochs(left_s: float, validation_s: float, expected: int) -> None:
    """An epoch takes 10 s, and half a validation."""
    found = plan_epochs(left_s, step_s=0.5, steps=20, validation_s=validation_s, eval_every=2)
    assert found == expected


# --- batch size ---


@pytest.mark.parametrize(("fitting", "largest", "low"), [(100, 1000, 94), (7, 1000, 7), (1, 1000, 1), (5000, 300, 300)])
def test_search_by_failure(fitting: int, largest: int, low: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= fitting

    assert low <= search_by_failure(fits, 1, largest) <= min(fitting, largest)
    assert max(tried) <= largest
    with pytest.raises(ConfigError, match="lower the input size"):
        search_by_failure(lambda batch: False, 1, largest)


@pytest.mark.parametrize(
    ("limit", "largest", "expected"), [(1000, 64, 18), (1000, 10, 10), (155, 64, 1), (10_000, 64, 64)]
)
def test_search_by_peak_never_goes_beyond_the_limit(limit: int, largest: int, expected: int) -> None:
    """A process of 100 bytes that needs 50 for each picture."""

    def measure(batch: int) -> int:
        assert 100 + 50 * batch <= limit
        return 100 + 50 * batch

    assert search_by_peak(measure, 1, largest, base=100, limit=limit) == expected
    with pytest.raises(ConfigError, match="lower the input size"):
        search_by_peak(lambda batch: 100 + 50 * batch, 1, largest, base=100, limit=149)


def test_auto_batch_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake limit and fake peaks: 10 MB beyond the process, 1 MB a sample."""
    base = 100_000_000
    monkeypatch.setattr(auto_batch, "resident_bytes", lambda: base)
    monkeypatch.setattr(auto_batch, "available_bytes", lambda: round((base + 10_400_000) / (1 - auto_batch.MARGIN)))
    monkeypatch.setattr(auto_batch, "_peak_bytes", lambda run, batch: (run(batch), base + 1_000_000 * batch)[1])
    train(TINY, settings(tmp_path, epochs=1, auto_batch=True))
    assert "batch_size = 10\n" in (tmp_path / "config.toml").read_text()
    monkeypatch.setattr(auto_batch, "available_bytes", lambda: base * 2)
    train(TINY, settings(tmp_path, epochs=2, auto_batch=True))  # the batch size of the run stays
    assert checkpoint(tmp_path / "last.ckpt")["stride32"]["settings"]["batch_size"] == 10


def test_memory_is_measured() -> None:
    before = resident_bytes()
    # Straight from the system: the heap may have freed pages of other tests to hand out.
    pages = mmap.mmap(-1, 60_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with PeakMemory() as memory, pages as block:
        for place in range(0, len(block), 4096):
            block[place] = 1
        held = resident_bytes()
    assert held - before > 50_000_000
    assert memory.peak >= before
    assert available_bytes() > before


# --- several processes ---


def test_shares_of_an_epoch_have_no_sample_in_common() -> None:
    def shares(epoch: int) -> list[list[int]]:
        samplers = [EpochSampler(11, seed=3) for _ in range(3)]
        for rank, sampler in enumerate(samplers):
            sampler.shard(rank, 3)
            sampler.set_epoch(epoch)
            assert len(sampler) == 3
        return [[item - 11 * epoch for item in sampler] for sampler in samplers]

    seen = [item for share in shares(0) for item in share]
    assert len(set(seen)) == len(seen) == 9
    left_out = {frozenset(range(11)) - {item for share in shares(epoch) for item in share} for epoch in range(8)}
    assert len(left_out) > 1  # others in each epoch


def test_skipped_samples_are_left_out_of_their_epoch_alone() -> None:
    whole, resumed = EpochSampler(10, seed=3), EpochSampler(10, seed=3)
    resumed.skip(2, 4)
    for epoch in (2, 3):
        whole.set_epoch(epoch)
        resumed.set_epoch(epoch)
        assert list(resumed) == list(whole)[4 if epoch == 2 else 0 :]
        assert len(resumed) == 10


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Two processes with half the batch see what one sees; only batch statistics and dropout are each one's own."""
    plain: dict[str, Any] = {"dropout": 0.0, "epochs": 2}
    words = [f"{key}={value}" for key, value in {**plain, "samples": 25}.items()]
    done = subprocess.run(
        [
            sys.executable,
            tiny_run.__file__,
            f"out={tmp_path / 'two'}",
            "devices=2",
            "batch_size=2",
            "samples=25",
            *words,
        ],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    train(TINY, settings(tmp_path / "one", **plain))
    two, one = (checkpoint(tmp_path / name / "last.ckpt") for name in ("two", "one"))
    assert two["global_step"] == one["global_step"] == 12
    # Gradients are averaged: the weights part only as far as the batch statistics of 2 and 4 samples do.
    for name, value in one["state_dict"].items():
        if name.endswith("weight"):
            assert torch.allclose(two["state_dict"][name], value, atol=0.1), name
    assert (tmp_path / "two" / "exported").is_file()
    lines = [line for line in done.stderr.splitlines() if "training on" in line]
    assert len(lines) <= 1  # the first process speaks for all
