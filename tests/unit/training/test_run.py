"""How a training run begins and ends: the header, Ctrl-C, the folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tiny_run import TINY, prepare, settings

from vision.training import trainer
from vision.training.run import train
from vision.training.trainer import run_trainer


class ExitingTrainer:
    """Ends as Lightning does: with SystemExit, after Ctrl-C or for reasons of its own."""

    world_size, global_rank = 1, 0

    def __init__(self, *, interrupted: bool) -> None:
        self.interrupted = interrupted

    def fit(self, *_: Any, **__: Any) -> None:
        raise SystemExit(1)


@pytest.mark.parametrize(("interrupted", "raised"), [(True, KeyboardInterrupt), (False, SystemExit)])
def test_ctrl_c_comes_out_as_itself(
    interrupted: bool, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "build_trainer", lambda *_, **__: ExitingTrainer(interrupted=interrupted))
    config = settings(tmp_path)
    with pytest.raises(raised):
        run_trainer(config, prepare(config)(config))


def test_the_header_says_what_is_trained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vision"):
        train(TINY, settings(tmp_path, epochs=2, accumulate=2, eval_every=5))
    lines = [record.message for record in caplog.records if "run" in record.name]
    assert lines[:2] == ["training on 24 samples", "2 epochs of 6 batches, 6 steps; adamw, cosine, lr 0.01"]
    assert "M of them trained; cpu, 1 threads, 32-true" in lines[2]
    # Only the last epoch is due for a validation.
    assert next(record.message for record in caplog.records if "validation" in record.message).startswith("epoch 1")


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process started by the first one takes the plan that it finds."""
    first = settings(tmp_path, epochs=1)
    train(TINY, first)
    (tmp_path / "exported").unlink()
    monkeypatch.setenv("LOCAL_RANK", "1")
    train(TINY, settings(tmp_path, epochs=5))  # the plan says 1, and that is done
    assert not (tmp_path / "exported").exists()
