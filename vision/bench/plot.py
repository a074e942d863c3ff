"""The picture of a benchmark: accuracy over latency, one panel a kind of model, the bubble's area the file's size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vision.bench.rows import IN_WORDS, BenchRow
from vision.figures import LIGHT, Theme, new_figure, plain

PANEL_IN = (5.6, 4.2)
# Points across of a bubble: of the largest file, and of a file too small to see or a row without one.
LARGEST_BUBBLE = 26.0
SMALLEST_BUBBLE = 7.0
LABEL_GAP = 4.0
PANELS = {
    "detector": "Detectors",
    "embedder": "Embedders",
    "classifier": "Classifiers",
    "segmenter": "Segmenters",
    "backbone": "Backbones",
}


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the figure that no other label may cover."""

    x1: float
    y1: float
    x2: float
    y2: float

    def overlaps(self, other: Box) -> float:
        """Return the common area."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(width, 0.0) * max(height, 0.0)

    def outside(self, frame: Box) -> float:
        """Return the area that lies outside the frame."""
        return (self.x2 - self.x1) * (self.y2 - self.y1) - self.overlaps(frame)


def bench_figure(rows: Sequence[BenchRow], theme: Theme = LIGHT) -> Any:
    """Return a matplotlib figure of the rows, a panel for each kind of model that has any.

    The y axis is the accuracy that the kind is chosen by. Where no row of a kind has one, as for backbones without
    weights, it is the number of parameters. Rows without accuracy beside rows with one are left out. A line joins the
    sizes of one model in one engine, a colour is an engine.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    panels = [(kind, drawn) for kind in PANELS if (drawn := _drawn([row for row in rows if row.kind == kind]))]
    columns = min(2, max(1, len(panels)))
    lines = max(1, math.ceil(len(panels) / columns))
    size_in = (PANEL_IN[0] * columns, PANEL_IN[1] * lines)
    figure, axes = new_figure(theme, size_in=size_in, columns=columns, rows=lines)
    engines = list(dict.fromkeys(row.engine for row in rows))
    colours = {engine: theme.colours[index % len(theme.colours)] for index, engine in enumerate(engines)}
    largest = max((row.file_bytes or 0 for row in rows), default=0)
    for item, (kind, drawn) in zip(axes, panels, strict=False):
        _draw_panel(item, kind, drawn, colours, largest)
    for item in axes[len(panels) :]:
        item.remove()
    if axes and panels:
        _add_keys(axes[0], engines, colours, largest, theme)
    # Labels need the final place of the bubbles, which the layout decides when the figure is drawn.
    figure.draw_without_rendering()
    for item, (_, drawn) in zip(axes, panels, strict=False):
        _place_labels(figure, item, drawn, largest, theme)
    return figure


def _drawn(rows: Sequence[BenchRow]) -> list[BenchRow]:
    """Return the rows of a kind that its panel shows."""
    known = [row for row in rows if row.accuracy is not None]
    return known or list(rows)


def _height(row: BenchRow) -> float:
    return row.parameters / 1e6 if row.accuracy is None else row.accuracy


def _diameter(row: BenchRow, largest: int) -> float:
    """Return points across of a row's bubble: its area grows with the file."""
    share = (row.file_bytes or 0) / largest if largest else 0.0
    return max(SMALLEST_BUBBLE, LARGEST_BUBBLE * math.sqrt(share))


def _draw_panel(axes: Any, kind: str, rows: Sequence[BenchRow], colours: dict[str, str], largest: int) -> None:
    metric = rows[0].headline
    axes.set(
        title=PANELS[kind],
        xlabel="latency of the whole call, 1 picture, ms",
        ylabel=IN_WORDS.get(metric, metric) if metric else "million parameters",
    )
    axes.set_xscale("log")
    for series in _series(rows):
        x, y = [row.latency.median_ms for row in series], [_height(row) for row in series]
        colour = colours[series[0].engine]
        axes.plot(x, y, color=colour, linewidth=1.0, alpha=0.5, zorder=2)
        axes.hlines(
            y, [row.latency.low_ms for row in series], [row.latency.high_ms for row in series], color=colour, zorder=3
        )
        axes.scatter(x, y, s=[_diameter(row, largest) ** 2 for row in series], color=colour, alpha=0.45, zorder=4)
        axes.scatter(x, y, s=6, color=colour, zorder=5)
    _widen(axes, rows)
    _plain_milliseconds(axes)


def _series(rows: Sequence[BenchRow]) -> Iterator[list[BenchRow]]:
    """Yield the rows of each model in each engine, in their order: that of the sizes asked for."""
    groups: dict[tuple[str, str], list[BenchRow]] = {}
    for row in rows:
        groups.setdefault((row.name, row.engine), []).append(row)
    yield from groups.values()


def _widen(axes: Any, rows: Sequence[BenchRow]) -> None:
    """Leave room for labels: half an octave beside the outermost bubbles, and a share of the height."""
    heights = [_height(row) for row in rows]
    axes.set_xlim(min(row.latency.low_ms for row in rows) / 1.6, max(row.latency.high_ms for row in rows) * 1.6)
    room = 0.22 * (max(heights) - min(heights)) or 0.15 * max(heights) or 0.1
    # A share cannot pass 1; a little above it keeps the bubble whole.
    top = math.inf if rows[0].accuracy is None else 1.02
    axes.set_ylim(max(0.0, min(heights) - room), min(max(heights) + room, top))


def _plain_milliseconds(axes: Any) -> None:
    """Write times as 2, 5, 10, 20 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _add_keys(axes: Any, engines: Sequence[str], colours: dict[str, str], largest: int, theme: Theme) -> None:
    """Say what colours and areas mean, below the first panel's lower right corner."""
    for engine in engines:
        axes.scatter([], [], s=40, color=colours[engine], alpha=0.7, label=engine)
    if largest:
        text = f"{largest / 1e6:.3g} MB file"
        axes.scatter([], [], s=LARGEST_BUBBLE**2, facecolor="none", edgecolor=theme.muted, label=text)
    axes.figure.legend(
        loc="outside lower center",
        ncols=len(engines) + 1,
        frameon=False,
        fontsize=8,
        labelcolor=theme.ink,
        borderpad=1.2,
        handletextpad=1.2,
    )


def _place_labels(figure: Any, axes: Any, rows: Sequence[BenchRow], largest: int, theme: Theme) -> None:
    """Write the size beside each bubble, and the name at the last of each line, where the text covers least.

    A thin line leads from the bubble to its text.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    per_point = figure.dpi / 72
    frame = _box(axes.get_window_extent(renderer))
    centres = [axes.transData.transform((row.latency.median_ms, _height(row))) for row in rows]
    radii = [_diameter(row, largest) / 2 * per_point for row in rows]
    taken = [Box(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    last = [series[-1] for series in _series(rows)]
    # Long texts first, while there is room.
    for row, (x, y), radius in sorted(zip(rows, centres, radii, strict=True), key=lambda item: item[0] not in last):
        label = axes.annotate(
            f"{plain(row.name)} {row.size}" if row in last else row.size,
            (row.latency.median_ms, _height(row)),
            xytext=(0, 0),
            textcoords="offset pixels",
            fontsize=7,
            color=theme.ink,
            ha="center",
            va="center",
            zorder=6,
            arrowprops={"arrowstyle": "-", "color": theme.muted, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
        )
        extent = label.get_window_extent(renderer)
        half = (extent.width / 2, extent.height / 2)
        best = min(
            _offsets(half, radius + LABEL_GAP * per_point),
            key=lambda offset: _badness(_around(x + offset[0], y + offset[1], half), taken, frame, offset),
        )
        label.set_position(best)
        taken.append(_around(x + best[0], y + best[1], half))


def _offsets(half: tuple[float, float], clearance: float) -> Iterator[tuple[float, float]]:
    """Yield places for a label's centre around a bubble, nearest first: right, left, above, below, then the corners."""
    for stretch in (1.0, 1.6, 2.4, 3.4, 4.6):
        reach = clearance * stretch
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)):
            yield dx * (reach + half[0]), dy * (reach + half[1])


def _badness(label: Box, taken: Sequence[Box], frame: Box, offset: tuple[float, float]) -> float:
    """Return how bad a place is: what it covers counts most, then leaving the panel, then distance."""
    covered = sum(label.overlaps(other) for other in taken)
    return 10 * covered + 10 * label.outside(frame) + math.hypot(*offset)


def _around(x: float, y: float, half: tuple[float, float]) -> Box:
    return Box(x - half[0] - 1, y - half[1] - 1, x + half[0] + 1, y + half[1] + 1)


def _box(extent: Any) -> Box:
    return Box(extent.x0, extent.y0, extent.x1, extent.y1)
