from __future__ import annotations

import pytest
from walks import Path, make_counting, vertical, walk, zone

from vision.analytics.events import Kind

# The zone is the square from (0, 0) to (100, 100); the margin is 2 pixels and 2 frames settle a change.


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (vertical(150, 120, 80, 60), ["enter in 2", "present  3"]),
        (vertical(150, 80, 60, 120, 150), ["enter in 1", "exit out 3"]),
        (vertical(50, 60, 120, 150), ["appear in 0", "exit out 2"]),
        (vertical(150, 80, 150, 150), []),
        (vertical(150, 80, 60, 120, 60, 60), ["enter in 1", "present  5"]),
        (vertical(150, 100, 100, 101, 99, 101, 101, 101), ["enter in 1", "present  7"]),
        (vertical(101, 101, 101), []),
        (vertical(100, 100), ["appear in 0", "present  1"]),
        (vertical(150, 80, 60, *[None] * 4), ["enter in 1", "present  2"]),
        (vertical(150, 80, 60, *[None] * 40, 150), ["enter in 1", "vanish out 2"]),
        (vertical(150, 80, 60, *[None] * 10, 150, 150), ["enter in 1", "exit out 13"]),
        (vertical(150, 80, 60, *[None] * 10, 60), ["enter in 1", "present  13"]),
        (vertical(150, 50, 50, 150, 150, 50, 50, 150, 150),
         ["enter in 1", "exit out 3", "enter in 5", "exit out 7"]),
        (vertical(150, -150, 150, -150), []),
        (vertical(50), []),
    ],
    ids=[
        "enters and stays", "enters and leaves", "begins inside and leaves", "one frame inside", "one frame outside",
        "stands on the border", "stands just outside", "begins on the border", "hidden at the end", "lost inside",
        "leaves unseen", "hidden for a while", "comes twice", "jumps over it", "one frame only",
    ],
)  # fmt: skip
def test_visits(path: Path, expected: list[str]) -> None:
    events = walk(make_counting(zone()), {1: path})
    assert [f"{event.kind} {event.direction} {event.frame_index}" for event in events] == expected


def test_dwell_is_in_seconds_of_the_timestamps_and_in_frames_without() -> None:
    path = vertical(150, 80, 60, 60, 120, 150)
    times = [0.0, 0.1, 0.2, 5.2, 6.35, 6.4]
    (_, leaves) = walk(make_counting(zone()), {1: path}, times_s=times)
    assert (leaves.kind, leaves.dwell_s, leaves.dwell_frames) == (Kind.EXIT, pytest.approx(6.25), 3)
    assert leaves.timestamp_s == 6.35
    counting = make_counting(zone())
    (_, leaves) = walk(counting, {1: path})
    assert (leaves.dwell_s, leaves.dwell_frames) == (None, 3)
    dwell = counting.totals()["zones"]["hall"]["dwell"]
    assert (dwell["visits"], dwell["mean_frames"], dwell["mean_s"]) == (1, 3, None)


def test_totals_tell_occupancy_peak_and_dwell_by_class() -> None:
    counting = make_counting(zone(), class_names=("person", "dog"))
    paths = {
        1: vertical(150, 80, 80, 80, 150, 150, 150),
        2: vertical(150, 150, 80, 80, 80, 80, 80, x=20),
        3: vertical(50, 50, 50, None, None, None, None, x=80),
    }
    walk(counting, paths, labels={3: 1}, times_s=[index / 10 for index in range(7)])
    hall = counting.totals()["zones"]["hall"]
    assert {key: hall[key] for key in ("entries", "exits", "appeared", "vanished", "present")} == {
        "entries": 2, "exits": 1, "appeared": 1, "vanished": 0, "present": 2,
    }  # fmt: skip
    assert (hall["peak"], hall["peak_frame"]) == (3, 3)
    assert hall["classes"]["dog"]["dwell"] == {
        "visits": 1, "mean_frames": 2, "median_frames": 2, "max_frames": 2,
        "mean_s": 0.2, "median_s": 0.2, "max_s": 0.2,
    }  # fmt: skip
    assert hall["dwell"]["visits"] == 3
    assert hall["dwell"]["max_s"] == 0.4


def test_occupancy_is_of_now() -> None:
    counting = make_counting(zone(), max_gap=2)
    seen = []
    paths = {1: vertical(150, 80, 80, 80, 150, 150), 2: vertical(50, 50, None, None, None, None)}
    for end in range(1, 7):
        counting = make_counting(zone(), max_gap=2)
        walk(counting, {key: path[:end] for key, path in paths.items()})
        seen.append(counting.zones[0].occupancy)
    assert seen == [0, 1, 2, 2, 1, 0]


def test_a_concave_zone_and_a_repeated_corner() -> None:
    shape = [(0, 0), (100, 0), (100, 100), (50, 20), (0, 100), (0, 0)]
    events = walk(
        make_counting(zone(polygon=shape)), {1: [(50.0, 80.0)] * 3, 2: [(90.0, 70.0)] * 3, 3: [(10.0, 70.0)] * 3}
    )
    assert [event.track_id for event in events if event.kind == Kind.APPEAR] == [2, 3]


def test_feet_below_the_frame_stay_in_a_zone_at_its_border() -> None:
    path = vertical(90, 95, 99, 103, 104, 106, 104)
    assert [event.kind for event in walk(make_counting(zone()), {1: path})] == [Kind.APPEAR, Kind.EXIT]
    events = walk(make_counting(zone()), {1: path}, size_hw=(100, 300))
    assert [event.kind for event in events] == [Kind.APPEAR, Kind.PRESENT]


def test_a_relative_zone_is_that_part_of_the_frame() -> None:
    counting = make_counting(zone(polygon=[(0.5, 0), (1, 0), (1, 1), (0.5, 1)]), units="relative")
    events = walk(counting, {1: [(140.0, 50.0), (160.0, 50.0), (170.0, 50.0)]}, size_hw=(100, 300))
    assert [(event.kind, event.frame_index) for event in events] == [(Kind.ENTER, 1), (Kind.PRESENT, 2)]
