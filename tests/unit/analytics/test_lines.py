from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from walks import HEIGHT, Path, line, make_counting, vertical, walk

from vision.analytics.events import Kind


def crossings(path: Path, *lines: dict[str, object]) -> tuple[int, int]:
    """Return (in, out) of one track over the first line."""
    counting = make_counting(*(lines or (line(),)))
    walk(counting, {7: path})
    return counting.lines[0].total_in, counting.lines[0].total_out


# The line runs from (0, 100) to (200, 100); upwards is in; the margin is 2 pixels and 2 frames settle a side.
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (vertical(120, 110, 90, 80), (1, 0)),
        (vertical(80, 90, 110, 120), (0, 1)),
        (vertical(120, 110, 100, 90, 80), (1, 0)),
        (vertical(80, 90, 100, 110, 120), (0, 1)),
        (vertical(120, 110, 100, 110, 120), (0, 0)),
        (vertical(80, 90, 100, 90, 80), (0, 0)),
        (vertical(100, 100, 100, 100), (0, 0)),
        ([(x, 100.0) for x in range(-50, 260, 10)], (0, 0)),
        (vertical(120, 101, 99, 101, 99, 101, 99, 80, 70), (1, 0)),
        (vertical(120, 101, 99, 101, 99, 101, 99, 110, 120), (0, 0)),
        (vertical(120, 80, 120, 120), (0, 0)),
        (vertical(120, 80, 80, 120, 120), (1, 1)),
        (vertical(120, 80, 80, 120, 120, 80, 80), (2, 1)),
        (vertical(120, 80), (0, 0)),
        (vertical(120, None, None, None, None, 80, 80), (1, 0)),
        (vertical(120, 80, None, None, None, 80), (1, 0)),
        (vertical(120, 99, None, 99, None, None, 80, 70), (1, 0)),
        (vertical(120, *[None] * 40, 80, 80), (0, 0)),
        (vertical(99, 80, 70, 60), (0, 0)),
        (vertical(101, 80, 70, 60), (0, 0)),
        (vertical(5000, -5000, -5000), (1, 0)),
        ([(250.0, 120.0), (250.0, 110.0), (250.0, 90.0), (250.0, 80.0)], (0, 0)),
        ([(150.0, 120.0), (250.0, 120.0), (250.0, 80.0), (150.0, 80.0), (150.0, 80.0)], (0, 0)),
        ([(-100.0, 150.0), (100.0, 50.0), (100.0, 50.0)], (1, 0)),
        ([(-100.0, 150.0), (-100.0, 50.0), (-100.0, 50.0)], (0, 0)),
        ([(0.0, 120.0), (0.0, 80.0), (0.0, 80.0)], (1, 0)),
        ([(200.0, 120.0), (200.0, 80.0), (200.0, 80.0)], (1, 0)),
        ([(200.1, 120.0), (200.1, 80.0), (200.1, 80.0)], (0, 0)),
        ([(50.0, 120.0), (50.0, 80.0), (50.0, 80.0), (250.0, 80.0), (250.0, 120.0), (50.0, 120.0)], (1, 0)),
    ],
    ids=[
        "in", "out", "over a point on the line, in", "over a point on the line, out", "touches from below",
        "touches from above", "stands on the line", "walks along the line", "jitters, then passes",
        "jitters, then turns back", "one frame beyond", "there and back", "there, back and there again",
        "ends at once", "gap over the line", "gap after the line", "gaps on the line", "gap longer than max_gap",
        "begins on the line, inner side", "begins on the line, outer side", "one huge step", "beyond the end",
        "around the end", "slanting step through the line", "before the start", "through the first end",
        "through the last end", "just beyond the last end", "in, and home around the end",
    ],
)  # fmt: skip
def test_crossings(path: Path, expected: tuple[int, int]) -> None:
    assert crossings(path) == expected


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, 2.0, 3.0, 4.5])
def test_the_direction_turns_with_the_line(angle: float) -> None:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ends = np.array([[0.0, 100.0], [200.0, 100.0]]) @ turn.T
    path = [tuple(point) for point in np.array([[50.0, 150], [50, 120], [50, 80], [50, 50]]) @ turn.T]
    assert crossings(path, line(start=ends[0], end=ends[1])) == (1, 0)
    assert crossings(path, line(start=ends[1], end=ends[0])) == (0, 1)


def test_one_step_over_two_lines_counts_at_both() -> None:
    counting = make_counting(line("first"), line("second", (0, 60), (200, 60)))
    events = walk(counting, {1: vertical(120, 20, 10)})
    assert [(event.counter, event.direction) for event in events] == [("first", "in"), ("second", "in")]


def test_two_lines_that_share_an_end_count_one_passage_through_it_each() -> None:
    counting = make_counting(line("left", end=(50, 100)), line("right", start=(50, 100)))
    walk(counting, {1: vertical(120, 80, 80)})
    assert [counter.total_in for counter in counting.lines] == [1, 1]


def test_the_event_tells_when_the_line_was_passed_and_not_when_it_was_certain() -> None:
    counting = make_counting(line(min_frames=3))
    times = [0.0, 0.5, 0.6, 2.0, 2.1, 2.2]
    events = walk(counting, {4: vertical(120, 101, 99, 97, 90, 80)}, labels={4: 2}, times_s=times)
    assert len(events) == 1
    event = events[0]
    assert (event.frame_index, event.timestamp_s, event.kind, event.counter) == (2, 0.6, Kind.CROSS, "door")
    assert (event.track_id, event.label, event.direction, event.dwell_s) == (4, 2, "in", None)


def test_margin_and_frames_are_settings() -> None:
    path = vertical(120, 99.5)
    assert crossings(path, line(min_frames=1)) == (0, 0)
    assert crossings(path, line(min_frames=1, margin=0)) == (1, 0)
    assert crossings(vertical(120, 85, 85), line(margin=0.5)) == (0, 0)
    assert crossings(vertical(120, 85, 79, 79), line(margin=0.5)) == (0, 0)
    assert crossings(vertical(121, 85, 79, 79), line(margin=0.5)) == (1, 0)


@pytest.mark.parametrize(("anchor", "rise"), [("bottom_center", 0), ("center", HEIGHT / 2), ("top_center", HEIGHT)])
def test_the_anchor_decides_what_crosses(anchor: str, rise: float) -> None:
    path = vertical(*(y + rise for y in (110, 105, 95, 90)))
    assert crossings(path, line(anchor=anchor)) == (1, 0)
    assert crossings(vertical(120 + rise, 110 + rise, 105 + rise), line(anchor=anchor)) == (0, 0)


def test_tracks_and_classes_are_counted_apart() -> None:
    counting = make_counting(line(), line("people", classes=["person"]), class_names=("person", "dog"))
    up, down = vertical(120, 110, 90, 80), vertical(80, 90, 110, 120, x=120)
    walk(counting, {1: up, 2: down, 3: up}, labels={1: 0, 2: 1, 3: 1})
    totals = counting.totals()["lines"]
    assert totals["door"] == {
        "in": 2,
        "out": 1,
        "classes": {"person": {"in": 1, "out": 0}, "dog": {"in": 1, "out": 1}},
    }
    assert totals["people"] == {"in": 1, "out": 0, "classes": {"person": {"in": 1, "out": 0}}}


def test_random_walks_count_what_a_slow_counter_counts() -> None:
    """Without margin and with one frame, a count is each passage of the polyline through the segment."""
    rng = np.random.default_rng(20)
    paths = {key: [tuple(p) for p in np.cumsum(rng.normal(0, 40, (60, 2)), axis=0) + 100] for key in range(1, 31)}
    counting = make_counting(line(start=(40, 30), end=(160, 170), margin=0, min_frames=1))
    walk(counting, paths)
    expected = [0, 0]
    for path in paths.values():
        for before, after in pairwise(path):
            expected = [total + extra for total, extra in zip(expected, passage(before, after), strict=True)]
    assert [counting.lines[0].total_in, counting.lines[0].total_out] == expected
    assert sum(expected) > 40


def passage(before: tuple[float, ...], after: tuple[float, ...]) -> tuple[int, int]:
    """Return (in, out) of one step over the line (40, 30) to (160, 170), by solving for the point of intersection."""
    step, way = np.subtract(after, before), np.array([120.0, 140.0])
    on_step, on_line = np.linalg.solve(np.array([step, -way]).T, np.array([40.0, 30.0]) - before)
    if not (0 <= on_step <= 1 and 0 <= on_line <= 1):
        return 0, 0
    # The left hand of the line's way, seen in a picture whose y axis points down.
    return (1, 0) if step @ np.array([way[1], -way[0]]) > 0 else (0, 1)
