"""The curves of a run: losses, learning rate and validation metrics by step, joined over all starts of the run."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.figures import LIGHT, Theme, add_legend, new_figure, plain, series_colours

log = logging.getLogger(__name__)

METRICS_FOLDER = "metrics"
Numbers = npt.NDArray[np.float64]
# The smooth line over a noisy curve is a mean over this share of the run, around each step.
SMOOTHING = 0.04
# Shown of all the metrics at validation, where a run has them.
MAIN_METRICS = (
    *("ap", "ap50", "ap75", "f1", "rank1", "rank5", "mAP", "mIoU", "accuracy", "class_accuracy", "top5", "macro_f1"),
    "r2",
)
LEARNING_RATE = "lr-"
VALIDATION = "val_"
_NOT_CURVES = frozenset({"step", "epoch"})


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The logged numbers of a run.

    Attributes:
        series: name -> steps and values, both [N], by rising step.
        resumed: the first steps of all starts but the first.
        last_epoch: epochs counted from 1; 0 when nothing was logged.
    """

    series: Mapping[str, tuple[Numbers, Numbers]] = field(default_factory=dict)
    resumed: tuple[int, ...] = ()
    last_epoch: int = 0

    def named(self, prefix: str) -> dict[str, tuple[Numbers, Numbers]]:
        """Return the series whose names begin so, without the prefix."""
        return {name.removeprefix(prefix): value for name, value in self.series.items() if name.startswith(prefix)}

    @property
    def training(self) -> dict[str, tuple[Numbers, Numbers]]:
        """Series of the training steps: neither learning rates nor validation metrics."""
        return {name: value for name, value in self.series.items() if not name.startswith((LEARNING_RATE, VALIDATION))}


def read_history(out: Path) -> History:
    """Return the joined curves of a run folder; empty without any.

    Each start of a run writes a piece of its own. A run that was killed has logged steps behind its last checkpoint,
    and the next start takes these again: where pieces overlap, the later one is what became of the run.
    """
    pieces = [rows for path in _pieces(out / METRICS_FOLDER) if (rows := _read_rows(path))]
    kept: list[dict[str, float]] = []
    resumed = []
    for number, rows in enumerate(pieces):
        first = min(row["step"] for row in rows)
        if number:
            kept = [row for row in kept if row["step"] < first]
            # A run begun anew in the folder of an older one starts at the first step: nothing of that remains.
            resumed += [int(first)] if kept else []
        kept += rows
    names = dict.fromkeys(name for row in kept for name in row if name not in _NOT_CURVES)
    series = {}
    for name in names:
        points = sorted((row["step"], row[name]) for row in kept if name in row)
        steps, values = np.asarray(points, np.float64).T
        series[name] = (steps, values)
    last_epoch = max((int(row["epoch"]) + 1 for row in kept if "epoch" in row), default=0)
    return History(series, tuple(resumed), last_epoch)


def history_figures(history: History, theme: Theme = LIGHT) -> dict[str, Any]:
    """Return the figures that have data: loss, training, learning-rate, validation and validation-errors."""
    figures = {}
    losses = {name: curve for name, curve in history.training.items() if "loss" in name}
    others = {name: curve for name, curve in history.training.items() if name not in losses}
    if losses:
        figures["loss"] = _figure(losses, "Training loss", theme, history.resumed, smooth=True)
    if others:
        figures["training"] = _figure(others, "Training batches", theme, history.resumed, smooth=True)
    rates = _distinct(history.named(LEARNING_RATE))
    if rates:
        figures["learning-rate"] = _figure(rates, "Learning rate", theme, history.resumed)
    shares, errors = _validation_curves(history.named(VALIDATION))
    if shares:
        figures["validation"] = _figure(shares, "Validation", theme, history.resumed, marks=True, unit=True)
    if errors:
        figures["validation-errors"] = _figure(errors, "Validation errors", theme, history.resumed, marks=True)
    return figures


def _pieces(folder: Path) -> list[Path]:
    """Return the CSV files of all starts, in their order; early runs have one without a number."""
    numbered = [
        (int(match[1]), path / "metrics.csv")
        for path in folder.glob("version_*")
        if (match := re.fullmatch(r"version_(\d+)", path.name))
    ]
    files = [folder / "metrics.csv", *(path for _, path in sorted(numbered))]
    return [path for path in files if path.is_file()]


def _read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows with a step; a killed run may leave half a line, which is left out."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = {name: number for name, text in row.items() if name and (number := _number(text)) is not None}
            if "step" in numbers:
                rows.append(numbers)
    return rows


def _number(text: object) -> float | None:
    try:
        value = float(text) if isinstance(text, str) and text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _validation_curves(
    curves: Mapping[str, tuple[Numbers, Numbers]],
) -> tuple[dict[str, tuple[Numbers, Numbers]], dict[str, tuple[Numbers, Numbers]]]:
    """Return the main metrics on [0, 1], and those on scales of their own (losses, errors of a regression)."""
    shares = {name: curves[name] for name in MAIN_METRICS if name in curves}
    errors = {
        name: value
        for name, value in curves.items()
        if name not in shares and ("loss" in name or name in ("mae", "rmse"))
    }
    if not shares and not errors:
        return {}, dict(curves)
    return shares, errors


def _distinct(curves: Mapping[str, tuple[Numbers, Numbers]]) -> dict[str, tuple[Numbers, Numbers]]:
    """Return one of each group of equal curves, named by size: parameter groups often share a learning rate."""
    kept: list[tuple[Numbers, Numbers]] = []
    for steps, values in curves.values():
        if not any(len(values) == len(other) and np.array_equal(values, other) for _, other in kept):
            kept.append((steps, values))
    if len(kept) == 1:
        return {"all weights": kept[0]}
    kept.sort(key=lambda curve: -float(curve[1].max()))
    return {f"up to {curve[1].max():.2g}": curve for curve in kept}


def _figure(
    curves: Mapping[str, tuple[Numbers, Numbers]],
    title: str,
    theme: Theme,
    resumed: Sequence[int],
    *,
    smooth: bool = False,
    marks: bool = False,
    unit: bool = False,
) -> Any:
    figure, (axes,) = new_figure(theme)
    for (name, (steps, values)), colour in zip(curves.items(), series_colours(theme, len(curves)), strict=True):
        if smooth and len(values) > 20:
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
            values = _smooth(values)
        few = marks and len(values) <= 40
        axes.plot(
            steps, values, color=colour, linewidth=1.8, label=plain(name), marker="o" if few else None, markersize=3.5
        )
    for index, step in enumerate(resumed):
        axes.axvline(
            step, color=theme.muted, linewidth=1, linestyle=(0, (2, 3)), label="resumed" if index == 0 else None
        )
    axes.set(xlabel="step", title=title)
    values = np.concatenate([value for _, value in curves.values()])
    if unit and values.min() >= 0 and values.max() <= 1:
        axes.set_ylim(0, min(1.02, float(values.max()) * 1.15 + 0.02))
    elif values.min() >= 0:
        axes.set_ylim(bottom=0)
    add_legend(axes, theme)
    return figure


def _smooth(values: Numbers) -> Numbers:
    """Return the mean over a window around each value, cut at the ends: it neither lags nor leans on a guess."""
    half = max(2, round(len(values) * SMOOTHING / 2))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    rows = np.arange(len(values))
    first, last = np.maximum(rows - half, 0), np.minimum(rows + half + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))
