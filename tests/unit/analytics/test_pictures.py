from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from walks import boxes_at, line, make_counting, vertical, walk, zone

from vision.analytics.overlay import CounterOverlay
from vision.analytics.pictures import MAX_GAP, Background, HeatMap, PathMap, plain_background
from vision.errors import InvalidInputError
from vision.palette import PALETTE_RGB
from vision.render import Annotator
from vision.types import Frame, FrameResult

SIZE_HW = (120, 200)


def test_the_background_leaves_out_what_moves() -> None:
    background = Background()
    assert background.picture() is None
    for index in range(100):
        image = np.full((*SIZE_HW, 3), 90, np.uint8)
        image[40:80, index : index + 20] = 255
        background.add(image)
    picture = background.picture()
    assert picture is not None
    assert (picture.dtype, picture.shape) == (np.uint8, (*SIZE_HW, 3))
    assert (picture == 90).all()


def test_the_background_holds_few_frames_and_one_size() -> None:
    background = Background()
    for index in range(1000):
        background.add(np.full((8, 8, 3), index % 250, np.uint8))
    background.add(np.zeros((4, 4, 3), np.uint8))
    assert 8 <= len(background._kept) <= 16
    large = Background()
    image = np.broadcast_to(np.zeros(1, np.uint8), (6000, 8000, 3))
    for _ in range(3):
        large.add(image)
    assert len(large._kept) == 1


def test_heat_is_where_the_feet_were() -> None:
    scene, heat = plain_background(SIZE_HW), HeatMap(SIZE_HW)
    assert np.array_equal(heat.draw(scene), scene)
    for _ in range(20):
        heat.add(boxes_at([(50, 60), (150, 90), (-5, 60), (500, 60), (50, 119.9), (50, 120)]))
    heat.add(boxes_at([]))
    drawn = heat.draw(scene)
    changed = (drawn != scene).any(axis=2)
    assert changed[60, 50]
    assert changed[90, 150]
    assert not changed[20, 100]
    # Often is red, seldom is blue.
    assert drawn[60, 50, 0] > drawn[60, 50, 2]
    assert (scene == plain_background(SIZE_HW)).all()
    with pytest.raises(InvalidInputError, match="200x120, got 20x10"):
        heat.draw(plain_background((10, 20)))


def has_colour(pixel: np.ndarray[Any, Any], track_id: int) -> bool:
    """Return whether a pixel on a thin, smoothed line has the colour of the track."""
    return bool(np.abs(pixel.astype(int) - PALETTE_RGB[track_id % len(PALETTE_RGB)]).max() < 40)


def test_paths_have_the_colour_of_their_track() -> None:
    paths = PathMap(SIZE_HW)
    for frame in range(10):
        paths.add(frame, np.array([5, 18]), boxes_at([(20 + 15 * frame, 40), (20 + 15 * frame, 100)]))
    drawn = paths.draw(np.full((*SIZE_HW, 3), 90, np.uint8))
    assert has_colour(drawn[40, 100], 5)
    assert has_colour(drawn[100, 100], 18)
    assert (drawn[10, 10] < 90).all()
    with pytest.raises(InvalidInputError, match="size of the frames"):
        paths.draw(plain_background((10, 20)))


@pytest.mark.parametrize(("gap", "is_joined"), [(MAX_GAP, True), (MAX_GAP + 1, False)])
def test_a_long_gap_is_not_bridged(gap: int, is_joined: bool) -> None:
    paths = PathMap(SIZE_HW)
    paths.add(0, np.array([5]), boxes_at([(20, 60)]))
    paths.add(gap, np.array([5]), boxes_at([(180, 60)]))
    paths.add(gap + 1, np.array([7]), boxes_at([(1e9, -1e9)]))
    drawn = paths.draw(plain_background(SIZE_HW))
    assert has_colour(drawn[60, 100], 5) == is_joined


def test_counters_are_drawn_above_the_result_and_not_onto_the_frame() -> None:
    counting = make_counting(line(end=(180, 100)), zone("hall \u4eba", [(120, 10), (400, 10), (400, 60), (120, 60)]))
    walk(counting, {1: vertical(120, 80, 80)})
    frame = Frame(np.full((*SIZE_HW, 3), 90, np.uint8))
    drawn = Annotator(overlay=CounterOverlay(counting)).draw(frame, FrameResult(0))
    assert (frame.image == 90).all()
    assert (drawn[100, 5] != 90).any()
    assert (drawn[30, 120] != 90).any()
    # The arrow points to the "in" side, which is above.
    assert (drawn[97, 90] != 90).any()


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 8), (2160, 3840)])
def test_counters_are_drawn_on_every_size(size_hw: tuple[int, int]) -> None:
    counting = make_counting(line(), line("far", (-1e7, 3), (1e7, 5)), zone())
    counting.prepare(None)
    picture = np.full((*size_hw, 3), 90, np.uint8)
    CounterOverlay(counting)(picture)
    assert picture.shape == (*size_hw, 3)
