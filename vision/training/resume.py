"""Going on with an interrupted run: which settings may differ from those it began with."""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import TypeVar

from vision.config import to_dict
from vision.errors import ConfigError
from vision.training.checkpoints import LAST, RunState, read_run_state
from vision.training.config import TrainingConfig

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

# What they change is how a run goes, not what comes out of it (up to float rounding where the device differs).
FREE = frozenset(
    {
        "out",
        "name",
        "threads",
        "workers",
        "device",
        "strategy",
        "deterministic",
        "eval_every",
        "patience",
        "checkpoint_minutes",
        "checkpoint_steps",
        "auto_batch",
        "resume",
        "data_name",
        "data_terms",
    }
)


def find_run_state(config: TrainingConfig) -> RunState | None:
    """Return where the run of ``config`` stands, or None when it is to start anew; raises InvalidInputError."""
    path = config.out / LAST
    return read_run_state(path) if config.resume and path.is_file() else None


def settle(config: ConfigT, state: RunState, *, batch_field: str) -> ConfigT:
    """Return the settings with what an earlier start of the run has measured: batch size and planned epochs.

    A longer time budget plans proportionally more epochs.
    """
    changes: dict[str, object] = {}
    if config.auto_batch:
        changes[batch_field] = state.settings[batch_field]
    before = float(state.settings["time_budget_minutes"])
    if config.time_budget_minutes and before:
        changes["epochs"] = math.ceil(state.settings["epochs"] * max(1.0, config.time_budget_minutes / before))
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]  # names of fields


def check_settings(config: TrainingConfig, state: RunState) -> None:
    """Raise ConfigError when ``config`` would make another run out of the one that ``state`` describes.

    More epochs are allowed: the learning rate goes on at where the longer schedule stands.
    """
    new = to_dict(config)
    differing = [
        f"{key} (was {state.settings.get(key)!r}, now {new.get(key)!r})"
        for key in sorted(new.keys() | state.settings.keys())
        if new.get(key) != state.settings.get(key) and not _may_change(key, state.settings.get(key), new.get(key))
    ]
    if differing:
        raise ConfigError(
            f"a resumed run must keep the settings that {config.out / LAST} was made with, found other "
            f"{', '.join(differing)}; set them back, or start anew with another --out or --no-resume",
            path=config.out / LAST,
        )
    if config.epochs > state.settings["epochs"]:
        log.info("the run is extended from %d to %d epochs", state.settings["epochs"], config.epochs)


def is_over(config: TrainingConfig, state: RunState) -> bool:
    """Return whether the run needs no further training with these settings."""
    match state.finished:
        case "epochs":
            return config.epochs <= state.epoch
        case "patience":
            # Only more patience revives it; whether by enough is for the callback's own counter to say.
            return 0 < config.patience <= int(state.settings["patience"])
        case "budget":
            return 0 < config.time_budget_minutes <= float(state.settings["time_budget_minutes"])
    return False


def _may_change(key: str, before: object, now: object) -> bool:
    if key in FREE:
        return True
    if key == "epochs":
        return isinstance(before, int) and isinstance(now, int) and now > before
    # A budget may be longer or shorter, but a run is planned either by epochs or by time.
    return key == "time_budget_minutes" and bool(before) and bool(now)
