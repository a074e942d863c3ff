"""Learning-rate schedules as pure functions: (step, steps of the run) -> factor on the peak rate."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable

from vision.training.config import TrainingConfig

Schedule = Callable[[int, float], float]

ONE_CYCLE_RISE = 0.3  # share of the run (Smith 2018, "A disciplined approach", section 4)
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_MOMENTUM = (0.95, 0.85)


def build_schedule(config: TrainingConfig) -> Schedule:
    """Return the factor on the peak rate at each step: linear warm-up, then what ``config.schedule`` names.

    The returned function takes the step (from 0) and the steps of the whole run, which may change while the run goes
    (time budget). Warm-up takes ``warmup_steps``, a quarter of the run at most; one-cycle has its own rise instead.
    """
    if config.schedule == "one-cycle":
        return one_cycle
    after = _after_warmup(config)

    def factor(step: int, total_steps: float) -> float:
        warmup = warmup_length(config.warmup_steps, total_steps)
        if step < warmup:
            return (step + 1) / warmup
        return after(step, warmup, total_steps)

    return factor


def warmup_length(warmup_steps: int, total_steps: float) -> int:
    """Return the steps of the warm-up: as asked, a quarter of the run at most, 1 at least."""
    return max(1, min(warmup_steps, int(total_steps) // 4))


def one_cycle(step: int, total_steps: float) -> float:
    """Return the factor of the one-cycle policy: cosine up from 1/25 over 30 % of the run, cosine down to 0."""
    progress = min(1.0, step / max(1.0, total_steps))
    if progress < ONE_CYCLE_RISE:
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * 0.5 * (1 - math.cos(math.pi * progress / ONE_CYCLE_RISE))
    return _half_cosine((progress - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE))


def one_cycle_momentum(step: int, total_steps: float) -> float:
    """Return the momentum of the one-cycle policy: high while the rate is low, and low at its peak."""
    high, low = ONE_CYCLE_MOMENTUM
    share = (one_cycle(step, total_steps) - ONE_CYCLE_START) / (1 - ONE_CYCLE_START)
    return high - (high - low) * max(0.0, share)


def _after_warmup(config: TrainingConfig) -> Callable[[int, int, float], float]:
    """Return the factor after the warm-up as a function of step, warm-up steps and total steps."""
    if config.schedule == "constant":
        return lambda step, warmup, total: 1.0
    if config.schedule in ("step", "multistep"):

        def staircase(step: int, warmup: int, total: float) -> float:
            # Rounding: the end of an epoch must not fall just short of it.
            epoch = round(min(1.0, step / max(1.0, total)) * config.epochs, 6)
            if config.schedule == "step":
                return config.lr_decay ** math.floor(epoch / config.lr_step_epochs)
            return config.lr_decay ** bisect.bisect_right(config.lr_milestones, epoch)

        return staircase
    shape = _half_cosine if config.schedule == "cosine" else _falling_line
    return lambda step, warmup, total: shape(min(1.0, (step - warmup) / max(1.0, total - warmup)))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def _falling_line(progress: float) -> float:
    return 1 - progress
