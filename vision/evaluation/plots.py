"""Plots of a detector's evaluation: precision over recall, F1 over the threshold, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vision.evaluation.curves import Threshold, counts_at, f1_at, mean_f1_at, precision_recall
from vision.evaluation.matching import ClassMatches, ScoreArray
from vision.figures import LIGHT, Theme, add_legend, new_figure, plain, series_colours
from vision.types import IntArray

# More lines than this are no longer told apart: the others stay grey, without a name.
MOST_NAMED = 6
MOST_WRITTEN_CELLS = 14
MOST_WRITTEN_SHARES = 32
RECALL_POINTS = np.linspace(0, 1, 101)
BACKGROUND = "background"


def precision_recall_figure(
    matches: Sequence[ClassMatches], class_names: Sequence[str], ap50: Sequence[float], theme: Theme = LIGHT
) -> Any:
    """Return the precision-recall curve of each class at IoU 0.5, AP50 in the legend; the mean above all.

    Args:
        matches: of each class, in label order.
        class_names: in label order.
        ap50: in [0, 1], -1 for a class without objects, which is not drawn.
        theme: colours.
    """
    figure, (axes,) = new_figure(theme)
    present = [item.label for item in matches if item.object_count]
    curves = {label: _precision_at_points(matches[label]) for label in present}
    named = _worth_naming(present, ap50)
    colours = dict(zip(named, series_colours(theme, len(named)), strict=True))
    for label in sorted(present, key=lambda key: key in named):
        text = f"{plain(class_names[label])}  {ap50[label]:.3f}" if label in named else None
        axes.plot(
            RECALL_POINTS, curves[label], color=colours.get(label, theme.grid), linewidth=1.6, label=text or "_other"
        )
    if len(present) > 1:
        mean = np.mean(list(curves.values()), axis=0)
        value = float(np.mean([ap50[label] for label in present]))
        axes.plot(RECALL_POINTS, mean, color=theme.ink, linewidth=2.4, label=f"mean of {len(present)}  {value:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="Precision and recall, IoU 0.5")
    if not present:
        _say(axes, "no objects", theme)
    add_legend(axes, theme, title="AP50", title_fontproperties={"size": 8}, loc="lower left")
    if axes.get_legend() is not None:
        axes.get_legend().get_title().set_color(theme.muted)
    return figure


def f1_figure(
    matches: Sequence[ClassMatches], class_names: Sequence[str], best: Threshold, theme: Theme = LIGHT
) -> Any:
    """Return F1 over the score threshold, with the threshold that serves all classes best marked.

    With one class, precision and recall are drawn beside it.
    """
    figure, (axes,) = new_figure(theme)
    present = [item for item in matches if item.object_count]
    highest = max((float(item.scores[0]) for item in present if len(item.scores)), default=1.0)
    thresholds = np.linspace(0, max(1.0, highest), 401)
    if len(present) == 1:
        kept, right = counts_at(present[0], thresholds)
        shown = kept > 0
        axes.plot(
            thresholds[shown], (right / np.maximum(kept, 1))[shown], color=theme.colours[1], lw=1.4, label="precision"
        )
        axes.plot(thresholds, right / present[0].object_count, color=theme.colours[2], lw=1.4, label="recall")
    elif len(present) <= MOST_NAMED:
        for item, colour in zip(present, series_colours(theme, len(present)), strict=True):
            name = plain(class_names[item.label])
            axes.plot(thresholds, f1_at(item, thresholds), color=colour, lw=1.2, label=name)
    else:
        for item in present:
            axes.plot(thresholds, f1_at(item, thresholds), color=theme.grid, lw=1.0)
    strong = theme.colours[0] if len(present) == 1 else theme.ink
    text = "F1" if len(present) == 1 else "F1, mean of classes"
    axes.plot(thresholds, mean_f1_at(matches, thresholds), color=strong, lw=2.4, label=text)
    if best.f1 > 0:
        axes.axvline(best.conf, color=theme.muted, lw=1, linestyle=(0, (4, 3)))
        axes.plot([best.conf], [best.f1], "o", color=strong, markersize=6)
        side, align = (8, "left") if best.conf < 0.6 * thresholds[-1] else (-8, "right")
        axes.annotate(
            f"F1 {best.f1:.3f} at {best.conf:.3f}", (best.conf, best.f1), xytext=(side, 8), ha=align,
            textcoords="offset points", fontsize=9, color=theme.ink,
        )  # fmt: skip
    axes.set(xlim=(0, thresholds[-1]), ylim=(0, 1.02), xlabel="score threshold", title="F1 over the threshold, IoU 0.5")
    add_legend(axes, theme, loc="upper right")
    return figure


def confusion_figure(
    matrix: IntArray,
    class_names: Sequence[str],
    theme: Theme = LIGHT,
    *,
    background: bool = True,
    counts: bool = True,
    title: str = "",
) -> Any:
    """Return the confusion matrix: rows are what was there, columns what was found, colour is the share of the row.

    Args:
        matrix: int [K, K], or [K + 1, K + 1] with background last.
        class_names: K names.
        theme: colours.
        background: whether the last row and column are background.
        counts: write counts and shares into the cells; otherwise shares alone, in percent, which are readable for more
            classes and for millions of pixels.
        title: above the plot.
    """
    from matplotlib.colors import LinearSegmentedColormap

    names = [plain(name) for name in class_names] + ([BACKGROUND] if background else [])
    count = len(names)
    side = min(14.0, max(3.6, 1.9 + 0.42 * count))
    figure, (axes,) = new_figure(theme, size_in=(side + 0.9, side))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    colours = LinearSegmentedColormap.from_list("share", [theme.background, theme.colours[0]])
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="equal")
    axes.grid(False)
    size = 8 if count <= 24 else 8 * 24 / count + 1
    axes.set_xticks(range(count), names, rotation=45 if count > 2 else 0, ha="right" if count > 2 else "center")
    axes.set_yticks(range(count), names)
    axes.tick_params(labelsize=size)
    if count <= (MOST_WRITTEN_CELLS if counts else MOST_WRITTEN_SHARES):
        for row, column in np.ndindex(matrix.shape):
            if background and row == column == count - 1:
                continue
            # On a strong cell of either theme the background's colour is what stands out.
            ink = theme.background if share[row, column] > 0.55 else theme.ink
            text = _cell_text(int(matrix[row, column]), float(share[row, column]), counts=counts)
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    if background:
        axes.add_patch(_empty_cell(count - 1, theme))
    axes.set(xlabel="found as", ylabel="really")
    axes.set_title(title or "Confusion", fontsize=10)
    return figure


def _cell_text(count: int, share: float, *, counts: bool) -> str:
    """Return count and share, or the share alone in percent, which is left out where it rounds to nothing."""
    if counts:
        return f"{count}\n{share:.0%}"
    return f"{100 * share:.0f}" if share >= 0.005 else ""


def _empty_cell(position: int, theme: Theme) -> Any:
    """Return a hatched square: background found as background cannot be counted."""
    from matplotlib.patches import Rectangle

    return Rectangle(
        (position - 0.5, position - 0.5), 1, 1, facecolor=theme.grid, edgecolor=theme.muted, hatch="////", linewidth=0
    )


def _precision_at_points(matches: ClassMatches) -> ScoreArray:
    """Return the largest precision at each of 101 recalls or beyond, which is what AP averages."""
    precision, recall = precision_recall(matches)
    if not len(recall):
        return np.zeros(len(RECALL_POINTS))
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALL_POINTS, side="left")
    return np.where(at < len(recall), falling[np.minimum(at, len(recall) - 1)], 0.0)


def _worth_naming(labels: Sequence[int], ap50: Sequence[float]) -> list[int]:
    """Return the labels to colour: all, or the three best and the three worst of many, best first."""
    ranked = sorted(labels, key=lambda label: -ap50[label])
    if len(ranked) <= MOST_NAMED:
        return ranked
    return ranked[: MOST_NAMED // 2] + ranked[-(MOST_NAMED // 2) :]


def _say(axes: Any, text: str, theme: Theme) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=theme.muted)
