"""A resumed run ends as an uninterrupted one, bit for bit, wherever it was interrupted; other settings are refused."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from tiny_run import TINY, DisturbanceError, assert_same_state, checkpoint, settings

from vision.errors import ConfigError, DivergenceError, InvalidInputError
from vision.training.run import train

REPOSITORY = Path(__file__).parents[3]
# 6 batches an epoch, 3 epochs.
VARIANTS: dict[str, dict[str, Any]] = {
    "adamw with averaging": {},
    "momentum, one-cycle": {"optimizer": "momentum", "nesterov": True, "schedule": "one-cycle", "ema_decay": 0.0},
    "accumulating 4 of 6 batches": {"accumulate": 4},
    "patience, rare validations": {"patience": 3, "eval_every": 2},
    "loaded by a worker": {"workers": 1},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of an uninterrupted run of each variant."""
    return {
        name: train(TINY, settings(tmp_path_factory.mktemp("whole"), **values)) for name, values in VARIANTS.items()
    }


@pytest.mark.parametrize(
    ("variant", "fail_step"),
    [
        ("adamw with averaging", 2),
        ("adamw with averaging", 6),
        ("adamw with averaging", 15),
        ("momentum, one-cycle", 9),
        ("accumulating 4 of 6 batches", 3),
        ("patience, rare validations", 13),
        ("loaded by a worker", 8),
    ],
)
def test_resumed_equals_uninterrupted(
    variant: str, fail_step: int, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, **VARIANTS[variant], checkpoint_steps=1)
    monkeypatch.setenv("TINY_FAIL_STEP", str(fail_step))
    with pytest.raises(DisturbanceError):
        train(TINY, config)
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == fail_step
    monkeypatch.delenv("TINY_FAIL_STEP")
    # Whatever else happened in the process must not matter.
    random.seed(123)
    torch.manual_seed(123)
    train(TINY, config)
    assert_same_state(tmp_path / "last.ckpt", whole[variant] / "last.ckpt")
    assert_same_state(tmp_path / "best.ckpt", whole[variant] / "best.ckpt")


def test_resuming_from_an_older_checkpoint_of_the_epoch(
    whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved at step 8, failed at step 11: three steps are done again."""
    config = settings(tmp_path, checkpoint_steps=2, checkpoint_minutes=0)
    monkeypatch.setenv("TINY_FAIL_STEP", "9")
    with pytest.raises(DisturbanceError):
        train(TINY, config)
    assert checkpoint(tmp_path / "last.ckpt")["stride32"]["batches"] == 2
    monkeypatch.setenv("TINY_FAIL_STEP", "15")
    with pytest.raises(DisturbanceError):  # interrupted twice
        train(TINY, config)
    monkeypatch.delenv("TINY_FAIL_STEP")
    train(TINY, config)
    assert_same_state(tmp_path / "last.ckpt", whole["adamw with averaging"] / "last.ckpt")


def start_program(out: Path, *words: str, sleep_s: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TINY_SLEEP_S": str(sleep_s), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, tiny_run.__file__, f"out={out}", "checkpoint_steps=1", *words],
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
    )


def wait_for_step(path: Path, step: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if path.is_file() and checkpoint(path)["global_step"] >= step:
            return
        time.sleep(0.02)
    pytest.fail(f"no checkpoint of step {step}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_interrupted_programs_resume(number: signal.Signals, whole: dict[str, Path], tmp_path: Path) -> None:
    process = start_program(tmp_path, sleep_s=0.2)
    wait_for_step(tmp_path / "last.ckpt", 8, process)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (130 if number is signal.SIGINT else -signal.SIGKILL)
    assert 8 <= checkpoint(tmp_path / "last.ckpt")["global_step"] < 18
    train(TINY, settings(tmp_path, checkpoint_steps=1))
    assert_same_state(tmp_path / "last.ckpt", whole["adamw with averaging"] / "last.ckpt")
    assert_same_state(tmp_path / "best.ckpt", whole["adamw with averaging"] / "best.ckpt")


def test_two_runs_of_one_seed_agree_and_of_two_seeds_differ(whole: dict[str, Path], tmp_path: Path) -> None:
    first = whole["adamw with averaging"] / "last.ckpt"
    assert_same_state(train(TINY, settings(tmp_path / "again")) / "last.ckpt", first)
    other = train(TINY, settings(tmp_path / "other", seed=1)) / "last.ckpt"
    with pytest.raises(AssertionError):
        assert_same_state(other, first)


def test_a_finished_run_is_only_exported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train(TINY, settings(tmp_path, epochs=1))
    (tmp_path / "exported").unlink()
    before = (tmp_path / "last.ckpt").stat().st_mtime_ns
    monkeypatch.setenv("TINY_FAIL_STEP", "6")  # no step must be taken
    with caplog.at_level("INFO", logger="vision"):
        train(TINY, settings(tmp_path, epochs=1))
    assert "is over already (epochs)" in caplog.text
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == before
    assert (tmp_path / "exported").is_file()


def test_more_epochs_extend_a_run(tmp_path: Path) -> None:
    train(TINY, settings(tmp_path, epochs=1))
    train(TINY, settings(tmp_path, epochs=2))
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.5}, r"lr \(was 0.01, now 0.5\)"),
        ({"optimizer": "adam", "batch_size": 8}, r"batch_size \(was 4, now 8\), optimizer \(was 'adamw', now 'adam'\)"),
        ({"epochs": 1}, r"epochs \(was 2, now 1\)"),
        ({"time_budget_minutes": 1.0}, r"time_budget_minutes \(was 0.0, now 1.0\)"),
    ],
)
def test_settings_that_make_another_run_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = settings(tmp_path, epochs=2)
    train(TINY, config)
    written = (tmp_path / "config.toml").read_text()
    with pytest.raises(ConfigError, match=message + ".*set them back, or start anew"):
        train(TINY, dataclasses.replace(config, **changes))
    assert (tmp_path / "config.toml").read_text() == written


def test_harmless_settings_may_change(tmp_path: Path) -> None:
    train(TINY, settings(tmp_path, epochs=1))
    train(TINY, settings(tmp_path, epochs=1, threads=2, workers=1, eval_every=3, patience=9, data_name="mine"))


def test_no_resume_starts_anew(tmp_path: Path) -> None:
    train(TINY, settings(tmp_path, epochs=1))
    train(TINY, settings(tmp_path, epochs=1, lr=0.5, resume=False))
    assert checkpoint(tmp_path / "last.ckpt")["stride32"]["settings"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is damaged"), (b"no checkpoint", "is damaged"), (None, "is damaged"), ({"x": 1}, "another program")],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: Any, message: str) -> None:
    config = settings(tmp_path, epochs=1)
    path = tmp_path / "last.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    else:
        train(TINY, config)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidInputError, match=rf"last.ckpt .*{message}.*remove it"):
        train(TINY, config)


def test_a_kill_while_saving_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(tmp_path, checkpoint_steps=1)
    real_save = torch.save

    def die_while_saving(content: Any, file: Any) -> None:
        if content["global_step"] == 4:
            file.write(b"half of it")
            raise DisturbanceError
        real_save(content, file)

    monkeypatch.setattr(torch, "save", die_while_saving)
    with pytest.raises(DisturbanceError):
        train(TINY, config)
    assert checkpoint(tmp_path / "last.ckpt")["global_step"] == 3


def test_nan_ends_the_run_with_advice_and_keeps_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_NAN_STEP", "8")
    with pytest.raises(DivergenceError, match=r"got nan, in epoch 1 at step 8 with lr .*lower lr \(stride32 lr-find"):
        train(TINY, settings(tmp_path, checkpoint_steps=1))
    for name, step in (("last.ckpt", 8), ("best.ckpt", 6)):
        found = checkpoint(tmp_path / name)
        assert found["global_step"] == step
        assert all(torch.isfinite(value).all() for value in found["state_dict"].values())
