"""Search of settings with Optuna: random, grid or TPE, kept in a database so that it can be resumed.

A trial is a training run that writes nothing; its value is the best validation. Trials that are worse than the median
of the others at the same epoch are cut short.
"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import optuna
from lightning.pytorch.callbacks import Callback
from optuna.trial import Trial, TrialState

from vision.config import to_toml
from vision.errors import ConfigError, InvalidInputError
from vision.training.config import TrainingConfig
from vision.training.recipe import Recipe
from vision.training.search_results import write_results
from vision.training.search_space import Parameter, changed, check_space, combinations, describe_space
from vision.training.trainer import run_trainer

log = logging.getLogger(__name__)
ConfigT = TypeVar("ConfigT", bound=TrainingConfig)

STUDY_FILE, BEST_FILE = "study.db", "best.toml"
STARTUP_TRIALS = 5  # trials that run to their end before any is cut short


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """How to search.

    Attributes:
        parameters: what may change.
        trials: how many runs in all, earlier starts of the search included; 0 is 20, for a grid all combinations.
        metric: the logged metric to optimise; empty takes the one that chooses checkpoints.
        minimize: whether ``metric`` is better low; follows the task where ``metric`` is empty.
        method: random, grid or tpe (tree-structured Parzen estimator, Bergstra 2011).
        prune: cut short what is worse than the median.
    """

    parameters: tuple[Parameter, ...]
    trials: int = 0
    metric: str = ""
    minimize: bool = False
    method: str = "random"
    prune: bool = True

    def __post_init__(self) -> None:
        if self.method not in ("random", "grid", "tpe"):
            raise ConfigError(f"--method must be random, grid or tpe, got {self.method!r}; pick one")


def search(recipe: Recipe[ConfigT], config: ConfigT, plan: SearchPlan, folder: Path) -> Path:
    """Run the trials that are left and write table, plots and best.toml; returns the path of best.toml.

    The same call again goes on with the search. Ctrl-C ends it; its results so far are written.

    Args:
        recipe: the kind of model. config: settings that all trials share; its ``epochs`` is the length of a trial.
        plan: what to try. folder: gets study.db and the results.

    Raises:
        ConfigError: a parameter is wrong, or the folder holds a search of another space or metric.
        InvalidInputError: no trial came to its end.
    """
    check_space(config, plan.parameters)
    if config.devices > 1:
        raise ConfigError(f"a search trains on one device, got devices={config.devices}; set devices=1")
    # Settings and data that cannot be trained at all are found here, and not by every trial.
    parts = recipe.prepare(config)(config)
    metric = plan.metric or parts.monitor
    minimize = plan.minimize or (metric == parts.monitor and parts.mode == "min")
    del parts
    folder.mkdir(parents=True, exist_ok=True)
    study = _open_study(config, plan, folder, metric=metric, minimize=minimize)
    try:
        _run_trials(study, recipe, config, plan, metric)
    finally:
        write_results(study, plan.parameters, metric, folder)
    return _write_best(study, config, plan, folder)


def _open_study(config: TrainingConfig, plan: SearchPlan, folder: Path, *, metric: str, minimize: bool) -> optuna.Study:
    """Return the study of ``folder``, new or as it was left, with its queue in order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{(folder / STUDY_FILE).resolve()}"
    purpose = {"space": describe_space(plan.parameters), "metric": metric, "minimize": minimize}
    study = optuna.create_study(
        storage=storage,
        study_name="search",
        direction="minimize" if minimize else "maximize",
        load_if_exists=True,
        pruner=_pruner(plan, config),
    )
    before = study.user_attrs.get("purpose", purpose)
    if before != purpose:
        raise ConfigError(
            f"{folder / STUDY_FILE} holds a search of {before}, got {purpose}; "
            "give another --out, or the same parameters and metric to go on"
        )
    study.set_user_attr("purpose", purpose)
    # A seeded sampler begins anew with each start: another seed, or it would repeat itself.
    study.sampler = _sampler(plan, seed=config.seed + len(study.trials))
    _requeue_interrupted(study)
    if plan.method == "grid":
        for labels in combinations(plan.parameters):
            study.enqueue_trial(labels, skip_if_exists=True)
    return study


def _sampler(plan: SearchPlan, seed: int) -> optuna.samplers.BaseSampler:
    if plan.method == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(plan: SearchPlan, config: TrainingConfig) -> optuna.pruners.BasePruner:
    if not plan.prune:
        return optuna.pruners.NopPruner()
    # The first third of a trial says little: the rate is still rising.
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=config.epochs // 3 + 1)


def _requeue_interrupted(study: optuna.Study) -> None:
    """Put trials whose process died back into the queue."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(trial.params, user_attrs={"again": trial.number})


def _run_trials(study: optuna.Study, recipe: Recipe[ConfigT], config: ConfigT, plan: SearchPlan, metric: str) -> None:
    wanted = plan.trials or (len(list(combinations(plan.parameters))) if plan.method == "grid" else 20)
    while (number := count_done(study)) < wanted:
        trial = study.ask()
        log.info("trial %d (%d of %d)", trial.number, number + 1, wanted)
        _run_one(study, trial, recipe, config, plan, metric)
        gc.collect()


def _run_one(
    study: optuna.Study, trial: Trial, recipe: Recipe[ConfigT], config: ConfigT, plan: SearchPlan, metric: str
) -> None:
    """Run one trial and tell the study how it ended; what fails is recorded, and the search goes on."""
    try:
        values = {parameter.key: suggest(trial, parameter) for parameter in plan.parameters}
        watch = Watch(trial, metric, minimize=study.direction is optuna.study.StudyDirection.MINIMIZE)
        trial_config = changed(config, values)
        run_trainer(trial_config, recipe.prepare(trial_config)(trial_config), callbacks=[watch], keep=False)
        study.tell(trial, watch.best)
        log.info("trial %d: %s %.4f with %s", trial.number, metric, watch.best, values)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        log.info("trial %d is worse than the median and cut short", trial.number)
    except UnknownMetricError:
        study.tell(trial, state=TrialState.FAIL)
        raise
    except Exception as exc:
        # The border of a trial: one that fails (memory, NaN, settings that do not go together) must not end the search.
        trial.set_user_attr("error", " ".join(f"{type(exc).__name__}: {exc}".split()))
        study.tell(trial, state=TrialState.FAIL)
        log.warning("trial %d failed: %s", trial.number, exc)


class UnknownMetricError(ConfigError):
    """The metric to optimise is not among those that validation logs."""


class Watch(Callback):
    """Reports each validation to the study, and ends a trial that is worse than the median of the others."""

    def __init__(self, trial: Trial, metric: str, *, minimize: bool) -> None:
        self.trial = trial
        self.metric = metric
        self.choose = min if minimize else max
        self.values: list[float] = []

    @property
    def best(self) -> float:
        """The best value of all validations."""
        return self.choose(self.values)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Report; raise TrialPruned to end the trial."""
        known = trainer.callback_metrics
        if self.metric not in known:
            raise UnknownMetricError(
                f"--metric must be one that validation logs, got {self.metric!r}; known: {', '.join(sorted(known))}"
            )
        self.values.append(float(known[self.metric]))
        self.trial.report(self.values[-1], trainer.current_epoch + 1)
        is_last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        if not is_last and self.trial.should_prune():
            raise optuna.TrialPruned


def suggest(trial: Trial, parameter: Parameter) -> Any:
    """Return the value of a parameter for this trial."""
    if parameter.values:
        return parameter.value_of(trial.suggest_categorical(parameter.key, parameter.labels))
    if parameter.whole:
        return trial.suggest_int(parameter.key, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(parameter.key, parameter.low, parameter.high, log=parameter.log)


def count_done(study: optuna.Study) -> int:
    """Return the trials that ended by themselves: complete, cut short or failed, but not interrupted."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))
    return sum(1 for trial in ended if trial.state is not TrialState.FAIL or "error" in trial.user_attrs)


def _write_best(study: optuna.Study, config: ConfigT, plan: SearchPlan, folder: Path) -> Path:
    """Write the settings of the best trial, which ``stride32 train`` takes."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        errors = [trial.user_attrs["error"] for trial in study.trials if "error" in trial.user_attrs]
        raise InvalidInputError(
            f"a search needs one trial that comes to its end, got none of {len(study.trials)}; "
            f"first failure: {errors[0] if errors else 'none'}; see {folder / 'trials.csv'}"
        )
    best = study.best_trial
    values = {parameter.key: parameter.value_of(best.params[parameter.key]) for parameter in plan.parameters}
    path = folder / BEST_FILE
    path.write_text(to_toml(changed(config, values)))
    log.info("best: trial %d, %s %.4f with %s", best.number, study.user_attrs["purpose"]["metric"], best.value, values)
    return path
