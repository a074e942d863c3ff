"""The results of a search: a table of all trials, and plots of what mattered."""

from __future__ import annotations

import csv
import io
import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from vision.figures import LIGHT, new_figure, plain, save_figure
from vision.io.writers.atomic import AtomicFile
from vision.training.search_space import Parameter

log = logging.getLogger(__name__)
TABLE, IMPORTANCE, PARALLEL = "trials.csv", "importance.png", "parallel.png"
FEWEST = 3  # complete trials for which plots say anything


def write_results(study: optuna.Study, parameters: Sequence[Parameter], metric: str, folder: Path) -> None:
    """Write trials.csv, and importance.png and parallel.png once there are three complete trials."""
    keys = [parameter.key for parameter in parameters]
    _write_table(study.trials, keys, metric, folder / TABLE)
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    if len(complete) < FEWEST:
        return
    draw_parallel(complete, parameters, metric, folder / PARALLEL, minimize=_minimizes(study))
    shares = importances(study)
    if shares:
        draw_importance(shares, metric, folder / IMPORTANCE, trials=len(complete))


def importances(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share in what separates good trials from all (PED-ANOVA, Watanabe 2023); they add to 1.

    Empty when the trials are too few or all alike.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    except (ValueError, RuntimeError) as exc:
        log.info("no plot of importance: %s", exc)
        return {}
    return {key: float(value) for key, value in found.items() if math.isfinite(value)}


def draw_importance(shares: dict[str, float], metric: str, path: Path, *, trials: int) -> None:
    """Draw the shares as bars, the greatest on top; they come from so many complete trials."""
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure, (axes,) = new_figure(LIGHT, size_in=(6.4, 1.2 + 0.4 * len(ordered)))
    bars = axes.barh([plain(key) for key, _ in ordered], [share for _, share in ordered], color=LIGHT.colours[0])
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8, color=LIGHT.ink)
    axes.grid(False, axis="y")
    axes.set_xlim(0, max(shares.values(), default=1.0) * 1.12 or 1.0)
    axes.set_xlabel(f"share in {metric}")
    axes.set_title(f"Importance of the settings in {trials} complete trials")
    save_figure(figure, path)


def draw_parallel(
    trials: Sequence[FrozenTrial], parameters: Sequence[Parameter], metric: str, path: Path, *, minimize: bool
) -> None:
    """Draw each trial as a line over one axis a parameter and one for the metric; the best lines on top and darkest."""
    values = np.array([trial.value for trial in trials], np.float64)
    columns = [_column(parameter, trials) for parameter in parameters]
    columns.append((_spread(values), *_number_ticks(values, log=False)))
    rank = (-values if minimize else values).argsort().argsort() / max(1, len(values) - 1)
    figure, (axes,) = new_figure(LIGHT, size_in=(max(6.4, 1.9 * len(columns)), 4.4))
    from matplotlib import colormaps

    colours = colormaps["viridis_r"]
    for index in np.argsort(rank):
        line = [column[0][index] for column in columns]
        best = rank[index] == 1
        axes.plot(
            range(len(columns)), line, color=LIGHT.colours[1] if best else colours(rank[index]),
            linewidth=2.5 if best else 1.0, alpha=1.0 if best else 0.7,
        )  # fmt: skip
    for place, (_, ticks, labels) in enumerate(columns):
        axes.axvline(place, color=LIGHT.muted, linewidth=0.8)
        for tick, label in zip(ticks, labels, strict=True):
            axes.annotate(
                label, (place, tick), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
                color=LIGHT.ink, bbox={"boxstyle": "square,pad=0.1", "fc": LIGHT.background, "ec": "none"},
            )  # fmt: skip
    axes.set_xticks(range(len(columns)), [*(plain(parameter.key) for parameter in parameters), plain(metric)])
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(-0.1, len(columns) - 0.6)
    axes.set_title(f"{len(trials)} complete trials, the best one in orange, darker is better")
    save_figure(figure, path)


def _column(parameter: Parameter, trials: Sequence[FrozenTrial]) -> tuple[Any, list[float], list[str]]:
    """Return heights in [0, 1] of the trials on a parameter's axis, and the places and texts of its ticks."""
    found = [trial.params[parameter.key] for trial in trials]
    if parameter.values:
        labels = parameter.labels
        places = np.linspace(0, 1, len(labels)) if len(labels) > 1 else np.zeros(1)
        return (
            places[[labels.index(value) for value in found]],
            places.tolist(),
            [plain(str(label)) for label in labels],
        )
    numbers = np.array(found, np.float64)
    scaled = np.log(numbers) if parameter.log else numbers
    return _spread(scaled), *_number_ticks(numbers, log=parameter.log)


def _spread(values: Any) -> Any:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _number_ticks(values: Any, *, log: bool) -> tuple[list[float], list[str]]:
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return [0.5], [f"{low:.3g}"]
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    numbers = [low * (high / low) ** share if log else low + (high - low) * share for share in shares]
    return shares, [f"{number:.3g}" for number in numbers]


def _minimizes(study: optuna.Study) -> bool:
    return study.direction is optuna.study.StudyDirection.MINIMIZE


def _write_table(trials: Sequence[FrozenTrial], keys: Sequence[str], metric: str, path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["trial", "state", metric, "epoch", "seconds", *keys, "error"])
    for trial in trials:
        if trial.state is TrialState.WAITING:
            continue
        value = trial.value if trial.value is not None else trial.intermediate_values.get(trial.last_step or 0)
        writer.writerow(
            [
                trial.number,
                trial.state.name.lower(),
                "" if value is None else f"{value:.6g}",
                trial.last_step or "",
                "" if trial.duration is None else f"{trial.duration.total_seconds():.1f}",
                *(trial.params.get(key, "") for key in keys),
                trial.user_attrs.get("error", ""),
            ]
        )
    output = AtomicFile(path, overwrite=True)
    output.write(text.getvalue().encode())
    output.commit()
