"""The benchmark's figure: panels, and labels that cover neither each other nor leave their panel."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from vision.bench.latency import Latency
from vision.bench.plot import Box, bench_figure
from vision.bench.rows import BenchRow
from vision.figures import png_bytes

pytest.importorskip("matplotlib")


def row(name: str, kind: str, size: str, ms: float, accuracy: float | None, engine: str = "onnx:cpu") -> BenchRow:
    metric = {"detector": "ap", "embedder": "rank1"}.get(kind, "none")
    return BenchRow(
        name=name, kind=kind, size=size, engine=engine, threads=1, parameters=3_000_000, file_bytes=6_000_000,
        latency=Latency(ms, ms * 0.9, ms * 1.2, ms * 0.8, ms, 9),
        metrics={} if accuracy is None else {metric: accuracy},
    )  # fmt: skip


CROWD = [
    row(f"model-{index}", "detector", size, ms * (1 + index / 20), ap + index / 200, engine)
    for index in range(3)
    for engine, factor in (("onnx:cpu", 1), ("torch:cpu", 2))
    for size, ms, ap in (("320", 20 * factor, 0.17), ("416", 33 * factor, 0.2), ("512", 50 * factor, 0.22))
]


def labels_of(rows: list[BenchRow]) -> list[list[tuple[str, Box]]]:
    figure = bench_figure(rows)
    png_bytes(figure)
    return [[(text.get_text(), label_box(text)) for text in axes.texts] for axes in figure.axes]


def test_a_panel_for_each_kind_that_is_there() -> None:
    rows = [*CROWD, row("crops", "embedder", "128x64", 2, 0.9), row("resnet18", "backbone", "224", 9, None)]
    titles = [(axes.get_title(), axes.get_ylabel()) for axes in bench_figure(rows).axes]
    assert titles == [("Detectors", "AP"), ("Embedders", "rank-1"), ("Backbones", "million parameters")]


def test_rows_without_accuracy_do_not_hide_those_with_one() -> None:
    (panel,) = labels_of([row("known", "detector", "320", 20, 0.2), row("other", "detector", "320", 30, None)])
    assert [text for text, _ in panel] == ["known 320"]
    (panel,) = labels_of([row("other", "detector", "320", 30, None)])
    assert [text for text, _ in panel] == ["other 320"]


def test_texts_of_a_crowd_do_not_cover_each_other() -> None:
    figure = bench_figure(CROWD)
    png_bytes(figure)
    (axes,) = figure.axes
    frame = Box(*axes.get_window_extent().extents)
    boxes = [label_box(text) for text in axes.texts]
    assert len(boxes) == len(CROWD)
    assert all(a.overlaps(b) == 0 for a, b in combinations(boxes, 2))
    assert all(box.outside(frame) < 1e-6 for box in boxes)


def label_box(text: object) -> Box:
    """Return the extent of the words alone, without the line that leads to them."""
    from matplotlib.text import Text

    return Box(*Text.get_window_extent(text).extents)  # type: ignore[arg-type]


def test_the_name_stands_once_a_line_and_sizes_at_the_others() -> None:
    texts = [text for text, _ in labels_of(CROWD)[0]]
    assert sorted(texts).count("416") == 6
    assert {text for text in texts if " " in text} == {f"model-{index} 512" for index in range(3)}


def test_an_accuracy_axis_ends_at_one() -> None:
    (axes,) = bench_figure([row("crops", "embedder", "128x64", 2, 0.99)]).axes
    low, high = axes.get_ylim()
    assert low < 0.99 < high <= 1.02
    assert all(a < b for a, b in pairwise(axes.get_xlim()))


def test_one_picture_for_the_same_rows() -> None:
    assert png_bytes(bench_figure(CROWD[:4])) == png_bytes(bench_figure(CROWD[:4]))
