"""Plots and pictures of an embedder's evaluation: the rank curve, the distances of pairs, and the worst confusions."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.evaluation.reid import ranked_galleries
from vision.figures import LIGHT, Theme, add_legend, new_figure
from vision.render import contact_sheet
from vision.training.datasets.pictures import load_rgb
from vision.types import FloatArray, ImageArray, IntArray

CROP_HW = (192, 96)


def rank_figure(curve: npt.NDArray[np.float64], theme: Theme = LIGHT) -> Any:
    """Return the share of queries [R] whose person is among the first 1 ... R of the gallery."""
    figure, (axes,) = new_figure(theme)
    ranks = np.arange(1, len(curve) + 1)
    axes.plot(ranks, curve, color=theme.colours[0], linewidth=2, marker="o", markersize=4)
    for rank in (1, 5, 10):
        if rank <= len(curve):
            axes.annotate(
                f"{curve[rank - 1]:.3f}", (rank, curve[rank - 1]), xytext=(6, -14), textcoords="offset points",
                fontsize=9, color=theme.ink,
            )  # fmt: skip
    axes.set_xticks([1, *range(5, len(curve) + 1, 5)])
    low = max(0.0, float(curve.min()) - 0.15) if len(curve) else 0.0
    axes.set(
        xlim=(0.5, len(curve) + 0.5), ylim=(low, 1.01), xlabel="rank", ylabel="share of queries",
        title="Found among the first",
    )  # fmt: skip
    return figure


def distance_figure(
    same: npt.NDArray[np.float32], different: npt.NDArray[np.float32], limit: float, theme: Theme = LIGHT
) -> Any:
    """Return the histogram of cosine distances of one person in two cameras and of two people in one camera.

    Args:
        same, different: see ``vision.evaluation.reid.pair_distances``.
        limit: distance marked by a line; NaN for none.
        theme: colours.
    """
    figure, (axes,) = new_figure(theme)
    highest = max((float(values.max()) for values in (same, different) if len(values)), default=1.0)
    edges = np.linspace(0, max(highest, 1e-3), 61)
    for values, colour, text in (
        (same, theme.colours[0], "one person, two cameras"),
        (different, theme.colours[1], "two people, one camera"),
    ):
        if len(values):
            share = np.histogram(values, edges)[0] / len(values)
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.35)
            axes.stairs(share, edges, color=colour, linewidth=1.6, label=f"{text} ({len(values):,} pairs)")
    if np.isfinite(limit):
        axes.axvline(limit, color=theme.muted, linewidth=1.2, linestyle=(0, (4, 3)), label=f"limit {limit:.3f}")
    axes.set(
        xlim=(0, edges[-1]), ylim=(0, None), xlabel="cosine distance", ylabel="share of pairs",
        title="Distances of pairs",
    )  # fmt: skip
    add_legend(axes, theme, loc="upper right")
    return figure


def confusion_sheet(
    embeddings: FloatArray, person_ids: IntArray, camera_ids: IntArray, paths: Sequence[Path], *, count: int = 8
) -> ImageArray | None:
    """Return the queries that are confused most surely: query, the wrong person found first, and the right one.

    None when every query finds its person first, or the crops cannot be read.
    """
    wrong = []
    for row, gallery, hits in ranked_galleries(embeddings, person_ids, camera_ids):
        if hits[0] > 0:
            first, right = int(gallery[0]), int(gallery[hits[0]])
            margin = float(embeddings[row] @ embeddings[first] - embeddings[row] @ embeddings[right])
            wrong.append((margin, row, first, right, int(hits[0]) + 1))
    tiles: list[ImageArray] = []
    captions: list[str] = []
    try:
        for _, row, first, right, rank in heapq.nlargest(count, wrong):
            tiles += [_tile(paths[index]) for index in (row, first, right)]
            distances = [1 - float(embeddings[row] @ embeddings[index]) for index in (first, right)]
            captions += ["query", f"first {distances[0]:.2f}", f"rank {rank} {distances[1]:.2f}"]
    except InvalidInputError:
        return None
    return contact_sheet(tiles, columns=6, tile_width=CROP_HW[1] + 54, captions=captions) if tiles else None


def _tile(path: Path) -> ImageArray:
    crop = cv2.resize(load_rgb(path), (CROP_HW[1], CROP_HW[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(crop, np.uint8)
