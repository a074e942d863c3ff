"""What must hold for every named tracker: resume, independence, growth, and frames that are no ordinary ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision.tracking.config import PRESETS
from vision.tracking.snapshot import load_tracker, save_tracker
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Tracks

Frame = tuple[Detections, dict[str, Any]]
"""Detections, and the numbers of their frame as Tracker.update takes them."""

WIDTH = 8


def scene(seed: int, frames: int = 24, embeddings: bool = True) -> list[Frame]:
    """Return walkers of three labels that hide, with scores of all sizes, clutter, lost frames and a panning camera."""
    rng = np.random.default_rng(seed)
    centre, velocity = rng.uniform(50, 500, (10, 2)), rng.normal(0, 6, (10, 2))
    half, looks = rng.uniform(15, 60, (10, 2)), rng.standard_normal((10, WIDTH))
    labels, number, result = rng.integers(0, 3, 10), 0, []
    for _ in range(frames):
        number += int(rng.choice([1, 1, 1, 4]))
        shift = rng.normal(0, 2, 2)
        centre = centre + velocity + shift + rng.normal(0, 1, centre.shape)
        seen = np.flatnonzero(rng.random(10) < 0.75)
        where = np.concatenate([centre[seen], rng.uniform(0, 500, (2, 2))])
        size = np.concatenate([half[seen], rng.uniform(5, 40, (2, 2))])
        vectors = np.concatenate([looks[seen], rng.standard_normal((2, WIDTH))])
        vectors += 0.2 * rng.standard_normal(vectors.shape)
        detections = Detections(
            np.concatenate([where - size, where + size], axis=1),
            rng.uniform(0.05, 1, len(where)),
            np.concatenate([labels[seen], rng.integers(0, 3, 2)]),
            # A frame in six comes without embeddings.
            vectors.astype(np.float32) if embeddings and rng.random() > 1 / 6 else None,
        )
        motion = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        result.append((detections, {"frame_index": number, "timestamp_s": number / 25, "camera_motion": motion}))
    return result


def run(tracker: Tracker, frames: list[Frame]) -> list[Tracks]:
    return [tracker.update(detections, **numbers) for detections, numbers in frames]


def assert_same(found: list[Tracks], expected: list[Tracks]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        for name in TRACK_FIELDS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def grid(count: int, step: int) -> Detections:
    """Return ``count`` objects far from each other that drift to the right, each with a look of its own."""
    place = np.arange(count)
    corner = np.stack([place % 25 * 200 + 3 * step, place // 25 * 200], axis=1).astype(np.float32)
    looks = np.random.default_rng(1).standard_normal((500, WIDTH)).astype(np.float32)[:count]
    return Detections(np.concatenate([corner, corner + np.array([40, 90])], 1), np.full(count, 0.9), place % 4, looks)


@pytest.fixture(params=sorted(PRESETS))
def preset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("embeddings", [True, False])
@pytest.mark.parametrize("stop", [1, 11])
def test_a_run_in_two_parts_equals_the_whole_to_the_last_bit(
    tmp_path: Path, preset: str, stop: int, embeddings: bool
) -> None:
    frames = scene(3, embeddings=embeddings)
    whole = run(Tracker(PRESETS[preset]), frames)
    assert sum(len(tracks) for tracks in whole) > 20
    first = Tracker(PRESETS[preset])
    early = run(first, frames[:stop])
    save_tracker(first, tmp_path / "state.npz")
    resumed = load_tracker(tmp_path / "state.npz")
    assert resumed.config == PRESETS[preset]
    assert_same(early + run(resumed, frames[stop:]), whole)


def test_a_tracker_saved_after_every_frame_loses_nothing_while_it_grows(tmp_path: Path, preset: str) -> None:
    counts = [30, 70, 130, 500, 500, 500, 40]
    frames: list[Frame] = [(grid(count, step), {}) for step, count in enumerate(counts)]
    whole = run(Tracker(PRESETS[preset]), frames)
    assert max(len(tracks) for tracks in whole) == 500
    tracker = Tracker(PRESETS[preset])
    pieces = []
    for frame in frames:
        # A loaded table has no more room than it needs: it grows at other frames than one that lives on.
        save_tracker(tracker, tmp_path / "state.npz")
        tracker = load_tracker(tmp_path / "state.npz")
        pieces += run(tracker, [frame])
    assert_same(pieces, whole)


def test_growth_from_64_to_500_tracks_changes_nothing_for_the_first(preset: str) -> None:
    few, many = Tracker(PRESETS[preset]), Tracker(PRESETS[preset])
    for step, count in enumerate([64, 64, 65, 129, 300, 500]):
        alone, among = few.update(grid(64, step)), many.update(grid(count, step))
        among = among[among.ids <= 64]
        assert among.ids.tolist() == alone.ids.tolist()
        assert among.detection_index.tolist() == alone.detection_index.tolist()
        np.testing.assert_allclose(among.boxes, alone.boxes, rtol=1e-6)
    assert alone.ids.tolist() == list(range(1, 65))
    assert len(many) == 500


def test_interleaved_trackers_equal_each_alone() -> None:
    """Two of every preset on different scenes, so that shared state of any kind would show."""
    scenes = [scene(seed, frames=16) for seed in range(3)]
    configs = [PRESETS[name] for name in sorted(PRESETS) for _ in range(2)]
    alone = [run(Tracker(config), scenes[k % 3]) for k, config in enumerate(configs)]
    trackers = [Tracker(config) for config in configs]
    together: list[list[Tracks]] = [[] for _ in configs]
    for step in range(len(scenes[0])):
        for k in np.random.default_rng(step).permutation(len(configs)):
            together[k] += run(trackers[k], [scenes[k % 3][step]])
    for found, expected in zip(together, alone, strict=True):
        assert_same(found, expected)


def test_empty_frames_first_between_and_last(preset: str) -> None:
    tracker = Tracker(PRESETS[preset])
    assert len(tracker.update(Detections.empty())) == 0
    known: set[int] = set()
    for step in range(8):
        known |= set(tracker.update(grid(5, step)).ids.tolist())
    assert len(tracker.update(Detections.empty())) == 0
    after = tracker.update(grid(5, 9)).ids.tolist()
    assert known == set(after) == {1, 2, 3, 4, 5}
    for _ in range(PRESETS[preset].max_age + 1):
        tracker.update(Detections.empty())
    assert len(tracker) == 0


@pytest.mark.parametrize("embeddings", [True, False])
def test_hundreds_of_identical_boxes(preset: str, embeddings: bool) -> None:
    count = 200
    looks = np.ones((count, WIDTH), np.float32) if embeddings else None
    same = Detections(np.tile([100.0, 100, 140, 200], (count, 1)), np.full(count, 0.9), np.zeros(count, int), looks)
    tracker = Tracker(PRESETS[preset])
    for _ in range(4):
        tracks = tracker.update(same)
        assert len(np.unique(tracks.detection_index)) == len(tracks) <= count
        np.testing.assert_allclose(tracks.boxes, same.boxes[: len(tracks)], atol=1e-3)
    assert tracks.ids.max() <= count
    assert len(tracks) > 0


def test_many_labels_never_mix(preset: str) -> None:
    """Ten boxes on one place, one a label: each track keeps its label, whatever the order of the rows."""
    tracker = Tracker(PRESETS[preset])
    label_of: dict[int, int] = {}
    for step in range(6):
        labels = np.random.default_rng(step).permutation(10) * 1_000_000_007
        boxes = np.tile([100.0 + step, 100, 140 + step, 200], (10, 1))
        tracks = tracker.update(Detections(boxes, np.full(10, 0.9), labels))
        for identity, label in zip(tracks.ids.tolist(), tracks.labels.tolist(), strict=True):
            assert label_of.setdefault(identity, label) == label
    assert len(label_of) == 10


def test_a_gap_in_the_frame_numbers_ages_tracks_by_its_length(preset: str) -> None:
    config = PRESETS[preset]
    for gap, lives in ((config.max_age, True), (config.max_age + 1, False)):
        tracker = Tracker(config)
        for step in range(5):
            tracks = tracker.update(grid(3, 0), frame_index=step)
        assert tracks.ids.tolist() == [1, 2, 3]
        # Nothing is seen when the gap ends: tracks die by the frames that passed, not by the number of calls.
        tracker.update(Detections.empty(), frame_index=4 + gap)
        assert (len(tracker) == 3) is lives


def test_a_gap_of_a_billion_frames_ends_all_tracks_and_no_more(preset: str) -> None:
    tracker = Tracker(PRESETS[preset])
    for step in range(5):
        tracker.update(grid(3, step), frame_index=step)
    tracker.update(Detections.empty(), frame_index=10**9)
    assert len(tracker) == 0
    for step in range(4):
        tracks = tracker.update(grid(3, step), frame_index=10**9 + 1 + step)
    assert tracks.ids.tolist() == [4, 5, 6]
