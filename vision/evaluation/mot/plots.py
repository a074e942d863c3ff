"""Figures of one sequence: who was followed by whom over time, errors by frame, and scores over the overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.evaluation.mot.matching import Matches, Switch
from vision.evaluation.mot.summary import ObjectSummary
from vision.figures import LIGHT, Theme, add_legend, new_figure, plain

# More lanes than this no longer fit a screen; the worst are drawn.
MOST_LANES = 60
_LANE_IN = 0.19
_BARS_IN = 1.5
_MARGIN_IN = 0.9
_WIDTH_IN = 11.0
# Bars by frame up to this many; beyond it each bar stands for several frames.
_MOST_BARS = 300
# A number is written into a span that is at least this share of the axis for each digit.
_DIGIT_SHARE = 0.008
_ALPHAS = np.arange(0.05, 0.99, 0.05)


def timeline_figure(
    matches: Matches, objects: Sequence[ObjectSummary], switches: Sequence[Switch], theme: Theme = LIGHT
) -> Any:
    """Return one lane an object over the frames, the first above, and the errors of each frame below.

    A strong bar is the result that follows the object (its id is written in, equal ids have equal colours), a thin line
    a frame where the object is there and missed; a triangle marks a switch.

    Args:
        matches: of the sequence.
        objects: the lanes, from the top; at most MOST_LANES are drawn.
        switches: of all objects.
        theme: colours.
    """
    lanes = objects[:MOST_LANES]
    heights = [max(len(lanes), 3) * _LANE_IN, _BARS_IN]
    figure, (axes, bars) = new_figure(theme, size_in=(_WIDTH_IN, sum(heights) + _MARGIN_IN), rows=2, heights=heights)
    length = matches.sequence.length
    # Of all objects, so that an id has the same colour in the pictures of switches.
    colours = lane_colours(objects, len(theme.colours))
    for position, lane in enumerate(lanes):
        present = [(first - 0.5, last - first + 1) for first, last in lane.present]
        axes.broken_barh(present, (position - 0.06, 0.12), color=theme.muted, zorder=2)
        for span in lane.spans:
            colour = theme.colours[colours[span.result_id]]
            width = span.last - span.first + 1
            axes.broken_barh([(span.first - 0.5, width)], (position - 0.36, 0.72), color=colour, linewidth=0, zorder=3)
            if width >= _DIGIT_SHARE * length * (len(str(span.result_id)) + 1):
                axes.text(
                    span.first - 0.5 + width / 2, position, str(span.result_id), ha="center", va="center_baseline",
                    fontsize=6.5, color=theme.background, zorder=5, clip_on=True,
                )  # fmt: skip
    _mark_switches(axes, lanes, switches, theme)
    axes.set(
        xlim=(0.5, length + 0.5), ylim=(max(len(lanes), 1) - 0.4, -0.8), ylabel="object of the ground truth",
        title=_lanes_title(len(lanes), len(objects)),
    )  # fmt: skip
    axes.set_yticks(range(len(lanes)), [str(lane.object_id) for lane in lanes])
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(False, axis="y")
    _draw_errors(bars, matches, theme)
    return figure


def alpha_figure(curves: Mapping[str, npt.NDArray[np.float64]], theme: Theme = LIGHT) -> Any:
    """Return HOTA, DetA, AssA and LocA over the overlap that a match needs; the mean of each in the legend."""
    figure, (axes,) = new_figure(theme)
    for (name, values), colour in zip(curves.items(), theme.colours, strict=False):
        strong = name == "HOTA"
        axes.plot(
            _ALPHAS, 100 * values, color=colour, linewidth=2.6 if strong else 1.5, zorder=3 if strong else 2,
            label=f"{name}  {100 * values.mean():.1f}",
        )  # fmt: skip
    axes.set(xlim=(0.05, 0.95), ylim=(0, 102), xlabel="overlap (IoU) that a match needs", title="HOTA over the overlap")
    add_legend(axes, theme, loc="lower left")
    return figure


def coverage_figure(objects: Sequence[ObjectSummary], theme: Theme = LIGHT) -> Any:
    """Return the share of its frames that each object was followed, by its main result and by any, best first."""
    figure, (axes,) = new_figure(theme)
    main = np.sort([row.main_frames / row.frames for row in objects])[::-1]
    matched = np.sort([row.matched / row.frames for row in objects])[::-1]
    places = (np.arange(len(objects)) + 0.5) / max(len(objects), 1)
    for values, colour, text in ((matched, 2, "by any result"), (main, 0, "by its main result")):
        axes.plot(places, values, color=theme.colours[colour], linewidth=2, label=text, marker="o", markersize=3)
    for limit, text in ((0.8, "mostly tracked"), (0.2, "mostly lost")):
        axes.axhline(limit, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            text, (1, limit), xytext=(-4, 3), textcoords="offset points", ha="right", fontsize=8, color=theme.muted
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="share of objects", ylabel="share of the object's frames")
    axes.set_title("How much of each object is followed", fontsize=10)
    add_legend(axes, theme, loc="lower left")
    return figure


def lane_colours(lanes: Sequence[ObjectSummary], count: int) -> dict[int, int]:
    """Return a colour number below ``count`` for each result id; ids in one lane get different ones while there are.

    Ids are coloured in the order of their first frame, each with the colour used least among its lanes, then overall.
    """
    starts = {span.result_id: span.first for lane in lanes for span in reversed(lane.spans)}
    neighbours: dict[int, set[int]] = {result_id: set() for result_id in starts}
    for lane in lanes:
        for result_id in lane.result_ids:
            neighbours[result_id].update(lane.result_ids)
    colours: dict[int, int] = {}
    used = [0] * count
    for result_id in sorted(starts, key=lambda key: (starts[key], key)):
        near = [colours[other] for other in neighbours[result_id] if other in colours]
        colour = min(range(count), key=lambda number: (near.count(number), used[number], number))
        colours[result_id] = colour
        used[colour] += 1
    return colours


def _mark_switches(axes: Any, lanes: Sequence[ObjectSummary], switches: Sequence[Switch], theme: Theme) -> None:
    places = {lane.object_id: position for position, lane in enumerate(lanes)}
    shown = [switch for switch in switches if switch.object_id in places]
    frames = [switch.frame - 0.5 for switch in shown]
    rows = np.asarray([places[switch.object_id] for switch in shown], np.float64)
    axes.vlines(frames, rows - 0.46, rows + 0.46, color=theme.ink, linewidth=1.2, zorder=6)
    axes.scatter(frames, rows - 0.5, marker="v", s=16, color=theme.ink, linewidths=0, zorder=6)


def _lanes_title(drawn: int, total: int) -> str:
    return "Objects, the worst above" if drawn == total else f"The worst {drawn} of {total} objects"


def _draw_errors(axes: Any, matches: Matches, theme: Theme) -> None:
    """Draw false positives upwards and missed objects downwards, by frame or by the mean of several."""
    sequence = matches.sequence
    false = np.bincount(sequence.results.frames[matches.is_false] - 1, minlength=sequence.length)
    missed = np.bincount(sequence.objects.frames[~matches.matched] - 1, minlength=sequence.length)
    step = -(-sequence.length // _MOST_BARS)
    starts = np.arange(0, sequence.length, step)
    widths = np.diff([*starts, sequence.length])
    for counts, sign, colour, text in ((false, 1, 5, "false positives"), (missed, -1, 0, "missed objects")):
        heights = sign * np.add.reduceat(counts, starts) / widths
        axes.bar(
            starts + 0.5, heights, width=widths, align="edge", color=theme.colours[colour], linewidth=0, label=text
        )
    axes.axhline(0, color=theme.muted, linewidth=0.8)
    axes.set(xlim=(0.5, sequence.length + 0.5), xlabel="frame", ylabel="boxes")
    axes.set_title(
        "In each frame" if step == 1 else f"Mean of {step} frames", fontsize=9, loc="left", color=theme.muted
    )
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    add_legend(axes, theme, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1, ncols=2)


def sequences_figure(table: Mapping[str, Mapping[str, float]], theme: Theme = LIGHT) -> Any:
    """Return HOTA, MOTA and IDF1 of each sequence as bars side by side, the first above."""
    names = ("HOTA", "MOTA", "IDF1")
    figure, (axes,) = new_figure(theme, size_in=(6.4, 1.2 + 0.5 * len(table)))
    places = np.arange(len(table))
    for position, name in enumerate(names):
        values = [row[name] for row in table.values()]
        axes.barh(places + 0.26 * (position - 1), values, height=0.24, color=theme.colours[position], label=name)
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:.1f}", (max(value, 0), place + 0.26 * (position - 1)), xytext=(3, 0), va="center", fontsize=7,
                textcoords="offset points", color=theme.muted,
            )  # fmt: skip
    axes.set_yticks(places, [plain(title) for title in table])
    axes.grid(False, axis="y")
    lowest = min(0.0, *(row[name] for row in table.values() for name in names))
    axes.set(xlim=(lowest, 105), ylim=(len(table) - 0.5, -0.5))
    axes.set_title("Scores of each sequence", fontsize=10, pad=20)
    add_legend(axes, theme, loc="lower center", bbox_to_anchor=(0.5, 1), borderaxespad=0.2, ncols=3)
    return figure
