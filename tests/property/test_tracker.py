"""Laws of the tracker and of its assignment, on random scenes."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.tracking.assignment import assign
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Tracks

seeds = st.integers(0, 2**32 - 1)
# Few frames per scene: confirm early and end early, so that a short scene meets the whole life cycle.
CONFIG = TrackerConfig(n_init=2, max_age=3, gallery_size=4, high_conf=0.2, output_coasting=3)


def scene(seed: int, frames: int = 14, width: int | None = 8) -> list[Detections]:
    """Return random walkers that cross, hide and are joined by clutter; some frames are empty."""
    rng = np.random.default_rng(seed)
    objects = int(rng.integers(1, 9))
    centre, velocity = rng.uniform(50, 400, (objects, 2)), rng.normal(0, 8, (objects, 2))
    size = rng.uniform(20, 90, (objects, 2))
    looks = rng.standard_normal((objects, width or 1))
    result = []
    for _ in range(frames):
        centre = centre + velocity + rng.normal(0, 1, centre.shape)
        seen = np.flatnonzero(rng.random(objects) < 0.8) if rng.random() > 0.1 else np.zeros(0, np.intp)
        clutter = int(rng.integers(0, 3))
        where = np.concatenate([centre[seen], rng.uniform(0, 400, (clutter, 2))])
        half = np.concatenate([size[seen], rng.uniform(0, 60, (clutter, 2))]) / 2
        embeddings = np.concatenate([looks[seen], rng.standard_normal((clutter, looks.shape[1]))])
        embeddings += 0.2 * rng.standard_normal(embeddings.shape)
        count = len(where)
        result.append(
            Detections(
                np.concatenate([where - half, where + half], axis=1),
                rng.random(count),
                rng.integers(0, 2, count) if seed % 2 else np.zeros(count, np.int64),
                embeddings.astype(np.float32) if width else None,
            )
        )
    return result


def assert_equal(a: Tracks, b: Tracks) -> None:
    for name in TRACK_FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@settings(max_examples=40, deadline=None)
@given(first=seeds, second=seeds)
def test_two_trackers_interleaved_behave_as_each_alone(first: int, second: int) -> None:
    scenes = scene(first), scene(second, width=None)
    alone = []
    for frames in scenes:
        tracker = Tracker(CONFIG)
        alone.append([tracker.update(frame) for frame in frames])
    trackers = Tracker(CONFIG), Tracker(CONFIG)
    for index, pair in enumerate(zip(*scenes, strict=True)):
        for k in (0, 1):
            assert_equal(trackers[k].update(pair[k]), alone[k][index])


@settings(max_examples=60, deadline=None)
@given(seed=seeds, width=st.sampled_from([None, 8]))
def test_permuting_detections_permutes_results(seed: int, width: int | None) -> None:
    """Up to the names of new tracks, which are given in the order of the rows."""
    rng = np.random.default_rng(seed)
    straight, shuffled = Tracker(CONFIG), Tracker(CONFIG)
    names: dict[int, int] = {}
    for frame in scene(seed, width=width):
        order = rng.permutation(len(frame))
        a, b = straight.update(frame), shuffled.update(frame[order])
        assert len(a) == len(b)
        # Row i of the shuffled frame is row order[i]: compare tracks by the detection or, when coasting, by known name.
        for row, (identity, index) in enumerate(zip(b.ids.tolist(), b.detection_index.tolist(), strict=True)):
            same = a.detection_index == order[index] if index >= 0 else a.ids == names[identity]
            assert same.sum() == 1
            assert names.setdefault(identity, int(a.ids[same][0])) == a.ids[same][0]
            np.testing.assert_allclose(a.boxes[same][0], b.boxes[row], rtol=1e-4, atol=1e-3)
            assert a.ages[same][0] == b.ages[row]


@settings(max_examples=60, deadline=None)
@given(seed=seeds, width=st.sampled_from([None, 8]), tentative=st.booleans())
def test_ids_are_never_reused_and_rows_are_consistent(seed: int, width: int | None, tentative: bool) -> None:
    tracker = Tracker(TrackerConfig(n_init=2, max_age=2, output_tentative=tentative, output_coasting=2))
    last_seen: dict[int, int] = {}
    for index, frame in enumerate(scene(seed, frames=20, width=width)):
        before = [None if array is None else array.copy() for array in (frame.boxes, frame.scores, frame.embeddings)]
        tracks = tracker.update(frame)
        for old, new in zip(before, (frame.boxes, frame.scores, frame.embeddings), strict=True):
            np.testing.assert_array_equal(old, new)
        assert (np.diff(tracks.ids) > 0).all()
        for identity in tracks.ids.tolist():
            assert index - last_seen.get(identity, index - 1) == 1
            last_seen[identity] = index
        matched = tracks.detection_index >= 0
        np.testing.assert_array_equal(matched, tracks.time_since_update == 0)
        assert len(np.unique(tracks.detection_index[matched])) == matched.sum()
        assert (tracks.detection_index < len(frame)).all()
        np.testing.assert_array_equal(tracks.scores[matched], frame.scores[tracks.detection_index[matched]])
        np.testing.assert_array_equal(tracks.labels[matched], frame.labels[tracks.detection_index[matched]])


@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_any_number_of_empty_frames_is_harmless(seed: int) -> None:
    tracker = Tracker(CONFIG)
    empty = Detections.empty()
    assert len(tracker.update(empty)) == 0
    for frame in scene(seed):
        tracker.update(frame)
        tracker.update(empty)
    for _ in range(CONFIG.max_age + 1):
        tracker.update(empty)
    assert len(tracker) == 0


def best_gain(costs: np.ndarray, limit: float) -> float:
    """Return the largest sum of limit - cost over all one-to-one choices, by trying every one."""
    gain = np.maximum(np.where(costs <= limit, limit - costs, 0), 0)
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    rows = range(gain.shape[0])
    return max(
        sum(gain[row, column] for row, column in zip(rows, columns, strict=True))
        for columns in itertools.permutations(range(gain.shape[1]), gain.shape[0])
    )


@settings(max_examples=150, deadline=None)
@given(seed=seeds, shape=st.tuples(st.integers(1, 6), st.integers(1, 6)), density=st.floats(0.1, 1))
def test_assignment_equals_brute_force(seed: int, shape: tuple[int, int], density: float) -> None:
    rng = np.random.default_rng(seed)
    costs = np.where(rng.random(shape) < density, rng.random(shape), np.inf)
    limit = 0.7
    rows, columns = np.nonzero(np.isfinite(costs))
    chosen_rows, chosen_columns = assign(rows, columns, costs[rows, columns], limit)
    chosen = costs[chosen_rows, chosen_columns]
    assert len(np.unique(chosen_rows)) == len(np.unique(chosen_columns)) == len(chosen)
    assert (chosen <= limit).all()
    np.testing.assert_allclose((limit - chosen).sum(), best_gain(costs, limit), atol=1e-5)
