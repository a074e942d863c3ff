from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from walks import boxes_at, line, make_counting, vertical, walk, zone

from vision.analytics.counting import Counting, count_trajectories
from vision.analytics.spec import parse_spec
from vision.errors import ConfigError, InvalidInputError
from vision.tracking.trajectories import Trajectories

NOTHING = (np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def test_import_loads_no_torch() -> None:
    code = "import sys, vision.analytics.counting; print([n for n in ('torch', 'supervision') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_empty_video_counts_nothing() -> None:
    counting = make_counting(line(), zone())
    assert counting.finish() == []
    assert counting.totals() == {"frames": 0, "lines": {}, "zones": {}}
    counting.prepare(None)
    assert counting.totals()["lines"]["door"] == {"in": 0, "out": 0, "classes": {}}
    for index in range(3):
        assert counting.update(index, None, *NOTHING) == []
    hall = counting.totals()["zones"]["hall"]
    assert (counting.frames, hall["peak"], hall["peak_frame"], hall["dwell"]["mean_s"]) == (3, 0, None, None)
    assert count_trajectories(Trajectories.empty(), make_counting(line(), zone())) == []


@pytest.mark.parametrize("index", [4, 5])
def test_frames_come_in_order(index: int) -> None:
    counting = make_counting(line())
    counting.update(5, None, *NOTHING)
    with pytest.raises(InvalidInputError, match="in order"):
        counting.update(index, None, *NOTHING)


@pytest.mark.parametrize(
    ("classes", "names", "words"),
    [
        (["persn"], ("person", "dog"), "did you mean 'person'"),
        ([2], ("person", "dog"), "known: person, dog"),
        ([-1], (), "numbers alone"),
        (["person"], (), "numbers alone"),
    ],
)
def test_unknown_classes_are_refused(classes: list[str | int], names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_counting(line(classes=classes), class_names=names)
    assert make_counting(line(classes=["dog", 0]), class_names=("person", "dog"))


def test_finished_tracks_count_as_the_live_ones() -> None:
    rng = np.random.default_rng(3)
    walks = {key: [tuple(p) for p in np.cumsum(rng.normal(0, 12, (80, 2)), axis=0) + 100] for key in range(1, 9)}
    paths = {key: [None if rng.random() < 0.2 else p for p in path] for key, path in walks.items()}
    paths[1][-1] = (0.0, 0.0)
    live, later = (make_counting(line(), zone()) for _ in range(2))
    events = walk(live, paths, times_s=[index / 25 for index in range(80)])
    rows = [(f, key, point) for key, path in paths.items() for f, point in enumerate(path) if point is not None]
    feet = np.array([point for _, _, point in rows])
    n = len(rows)
    trajectories = Trajectories(
        frames=np.array([f for f, _, _ in rows]),
        ids=np.array([key for _, key, _ in rows]),
        boxes=boxes_at(feet),
        scores=np.ones(n, np.float32),
        labels=np.zeros(n, np.int64),
        filled=np.zeros(n, np.bool_),
    )
    assert count_trajectories(trajectories, later, fps=25) == events
    assert later.totals() == live.totals()
    assert len(events) > 20
    with pytest.raises(InvalidInputError, match="fps"):
        count_trajectories(trajectories, make_counting(line()), fps=0)


def test_a_longer_sequence_ends_the_visits_of_lost_tracks() -> None:
    one = Trajectories(
        frames=np.arange(3), ids=np.ones(3, np.int64), boxes=np.tile(np.float32([[40, 10, 60, 50]]), (3, 1)),
        scores=np.ones(3, np.float32), labels=np.zeros(3, np.int64), filled=np.zeros(3, np.bool_),
    )  # fmt: skip
    kinds = [event.kind for event in count_trajectories(one, make_counting(zone(), max_gap=5))]
    assert kinds == ["appear", "present"]
    kinds = [event.kind for event in count_trajectories(one, make_counting(zone(), max_gap=5), frame_count=50)]
    assert kinds == ["appear", "vanish"]


def test_memory_does_not_grow_with_the_length_of_the_stream() -> None:
    counting = Counting(parse_spec({"lines": [line()], "zones": [zone()], "max_gap": 3}))
    for index in range(200):
        counting.update(index, None, np.array([index]), np.float32([[40, 10, 60, 50]]), np.array([0]))
    assert all(len(counter._memory.rows) <= 4 for counter in counting.counters)


def test_the_gap_of_the_file_wins() -> None:
    path = vertical(120, *[None] * 5, 80, 80)
    for max_gap, expected in ((4, 0), (6, 1)):
        counting = make_counting(line(), max_gap=max_gap)
        walk(counting, {1: path})
        assert counting.lines[0].total_in == expected
