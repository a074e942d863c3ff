"""The image pyramid: sizes, canvases, where windows lie in the frame, strips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.backbones.interface import TENSORFLOW_NORMALIZATION
from vision.detection import window_pyramid
from vision.detection.window_network import WindowGeometry
from vision.detection.window_pyramid import build_pyramid

GEOMETRY = WindowGeometry((27, 23), 4, ((12.0, 12.0), (17.0, 8.5)))


def test_levels_halve_every_octave_down_to_the_size_of_a_window() -> None:
    levels = build_pyramid((100, 200), GEOMETRY, long_side=96, scales_per_octave=2)
    assert [level.scaled_hw for level in levels] == [(48, 96), (34, 68), (24, 48), (17, 34), (12, 24), (8, 17), (6, 12)]


def test_the_first_level_does_not_grow_with_the_picture() -> None:
    sizes = [(30, 40), (300, 400), (12_000, 16_000)]
    pyramids = [build_pyramid(size, GEOMETRY, long_side=64, scales_per_octave=1) for size in sizes]
    assert len({tuple(level.canvas_hw for level in pyramid) for pyramid in pyramids}) == 1


@given(st.integers(1, 400), st.integers(1, 400), st.integers(12, 300))
@settings(max_examples=60, deadline=None)
def test_every_object_that_fits_a_window_has_one_on_some_level(height: int, width: int, long_side: int) -> None:
    """Window centres cover each level up to less than half a nominal box from its edges, a stride apart."""
    for level in build_pyramid((height, width), GEOMETRY, long_side=long_side, scales_per_octave=2):
        rows, columns = level.grid_hw
        assert GEOMETRY.grid_hw(level.canvas_hw) == (rows, columns)
        boxes = level.nominal_boxes().reshape(rows, columns, 2, 4).numpy()
        centres_x = (boxes[0, :, 0, 0] + boxes[0, :, 0, 2]) / 2 * level.scaled_hw[1] / width
        centres_y = (boxes[:, 0, 0, 1] + boxes[:, 0, 0, 3]) / 2 * level.scaled_hw[0] / height
        assert centres_x[0] <= 8.5 / 2
        assert centres_y[0] <= 12 / 2
        assert centres_x[-1] >= level.scaled_hw[1] - 8.5 / 2
        assert centres_y[-1] >= level.scaled_hw[0] - 12 / 2


def test_a_canvas_holds_the_scaled_picture_at_its_offset_and_the_mean_around_it() -> None:
    level = build_pyramid((40, 60), GEOMETRY, long_side=60, scales_per_octave=1)[0]
    image = np.full((40, 60, 3), 255, np.uint8)
    canvas = level.canvas(level.scale(image), range(level.grid_hw[0]), TENSORFLOW_NORMALIZATION)
    assert canvas.shape == (3, *level.canvas_hw)
    (top, left), (height, width) = level.offset_yx, level.scaled_hw
    inside = np.zeros_like(canvas, bool)
    inside[:, top : top + height, left : left + width] = True
    np.testing.assert_allclose(canvas[inside], 1.0)
    np.testing.assert_array_equal(canvas[~inside], 0)


def test_strips_are_rows_of_the_whole_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    level = build_pyramid((80, 60), GEOMETRY, long_side=80, scales_per_octave=1)[0]
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    scaled = level.scale(image)
    whole = level.canvas(scaled, range(level.grid_hw[0]), TENSORFLOW_NORMALIZATION)
    assert len(list(level.strips(1))) == 1
    monkeypatch.setattr(window_pyramid, "MAX_CANVAS_PIXELS", 2 * level.canvas_hw[1] * 35)
    strips = list(level.strips(2))
    assert len(strips) > 3
    assert [row for strip in strips for row in strip] == list(range(level.grid_hw[0]))
    for strip in strips:
        part = level.canvas(scaled, strip, TENSORFLOW_NORMALIZATION)
        assert part.shape[1] <= 35
        np.testing.assert_array_equal(part, whole[:, 4 * strip.start : 4 * strip.start + part.shape[1]])


def test_a_strip_has_at_least_one_row_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    level = build_pyramid((80, 60), GEOMETRY, long_side=80, scales_per_octave=1)[0]
    monkeypatch.setattr(window_pyramid, "MAX_CANVAS_PIXELS", 1)
    assert [len(strip) for strip in level.strips(1)] == [1] * level.grid_hw[0]
