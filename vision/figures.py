"""The look of every plot: one size, one set of colours, light and dark; matplotlib draws, without a window.

Figures are built from matplotlib's objects and not through pyplot, which keeps a list of them in the process and asks
the machine for a display.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.errors import MissingDependencyError
from vision.io.writers.atomic import AtomicFile
from vision.types import ImageArray

DPI = 120
LONGEST_NAME = 24


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a plot as #rrggbb: background, text, secondary text, grid, and one for each series."""

    background: str
    ink: str
    muted: str
    grid: str
    colours: tuple[str, ...]


# The hues stay apart for the common kinds of colour blindness, and each has contrast 3 or more on its background.
LIGHT = Theme(
    "#ffffff", "#1c2026", "#5f6772", "#e4e7eb",
    ("#1f6fd6", "#d0640a", "#0c8576", "#b23a94", "#7a6f00", "#c43a31", "#6b56c8", "#5c6b7a"),
)  # fmt: skip
DARK = Theme(
    "#171a1f", "#e7e9ec", "#9aa3ae", "#2d333b",
    ("#6ea8ff", "#ff9f4a", "#3ecbb5", "#ec86d0", "#d3c53a", "#ff7d72", "#ab9bff", "#a9b6c3"),
)  # fmt: skip


def new_figure(
    theme: Theme = LIGHT,
    *,
    size_in: tuple[float, float] = (6.4, 4.0),
    columns: int = 1,
    rows: int = 1,
    heights: Sequence[float] | None = None,
) -> tuple[Any, list[Any]]:
    """Return a matplotlib figure and its axes, row by row, in the look of the theme.

    Args:
        theme: colours.
        size_in: width and height of the whole figure in inches of 120 pixels.
        columns, rows: of axes.
        heights: of the rows, in relation to each other; equal by default.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependencyError("matplotlib", extra="train", purpose="drawing plots") from exc
    figure = Figure(figsize=size_in, dpi=DPI, facecolor=theme.background, layout="constrained")
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    axes = [figure.add_subplot(grid[index]) for index in range(rows * columns)]
    for item in axes:
        _dress(item, theme)
    return figure, axes


def _dress(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.background)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=8, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(theme.grid)
    axes.title.set(color=theme.ink, fontsize=10, fontweight="bold")
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.muted, fontsize=9)


def add_legend(axes: Any, theme: Theme, **options: Any) -> None:
    """Add a legend of the labelled series without a frame; does nothing when none has a label."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, **{"frameon": False, "fontsize": 8, "labelcolor": theme.ink, "loc": "best", **options}
        )


def plain(name: str) -> str:
    """Return a name from outside as text that matplotlib shows as it is: short, no formula, no hidden label.

    >>> plain("cost in $, _or_ not, with a very long tail")
    'cost in \\\\$, _or_ not, wi…'
    """
    text = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1].rstrip() + "…"
    # A label that begins with _ never reaches a legend.
    return (" " + text if text.startswith("_") else text).replace("$", r"\$")


def png_bytes(figure: Any) -> bytes:
    """Return the figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to stop or to talk.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from.*")
        figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return buffer.getvalue()


def save_figure(figure: Any, path: Path, *, overwrite: bool = True) -> Path:
    """Write the figure as a PNG that appears when it is complete; returns its path."""
    output = AtomicFile(path, overwrite=overwrite)
    output.write(png_bytes(figure))
    output.commit()
    return path


def picture_bytes(image: ImageArray, *, jpeg_quality: int | None = None) -> bytes:
    """Return an RGB uint8 [H, W, 3] picture as PNG, or as JPEG of that quality (1 to 95)."""
    from PIL import Image

    buffer = io.BytesIO()
    if jpeg_quality is None:
        Image.fromarray(image).save(buffer, "PNG")
    else:
        Image.fromarray(image).save(buffer, "JPEG", quality=jpeg_quality, optimize=True)
    return buffer.getvalue()


def save_picture(image: ImageArray, path: Path, *, overwrite: bool = True) -> Path:
    """Write an RGB picture as a PNG that appears when it is complete; returns its path."""
    output = AtomicFile(path, overwrite=overwrite)
    output.write(picture_bytes(image))
    output.commit()
    return path


def series_colours(theme: Theme, count: int) -> Sequence[str]:
    """Return a colour for each of ``count`` series; beyond the theme's eight they repeat."""
    return [theme.colours[index % len(theme.colours)] for index in range(count)]
