"""Input that is wrong is refused and leaves the tracker as it was; input that is odd is tracked all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Tracks

BOXES = np.array([[100.0, 100, 140, 200], [300, 100, 350, 220]])


@pytest.fixture(params=sorted(PRESETS))
def preset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def people(
    boxes: np.ndarray | None = None, embeddings: np.ndarray | None = None, scores: float | np.ndarray = 0.9
) -> Detections:
    boxes = BOXES if boxes is None else boxes
    return Detections(boxes, np.broadcast_to(scores, len(boxes)), np.zeros(len(boxes), int), embeddings)


def running(preset: str) -> Tracker:
    """Return a tracker with two confirmed tracks, embeddings 4 wide where it uses any, and a clock at 4 and 0.4 s."""
    tracker = Tracker(PRESETS[preset])
    for step in range(5):
        tracker.update(people(BOXES + step, np.eye(2, 4, dtype=np.float32)), frame_index=step, timestamp_s=step / 10)
    return tracker


def assert_unchanged(tracker: Tracker, before: dict[str, np.ndarray]) -> None:
    after = tracker.to_arrays()
    assert set(after) == set(before)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


def follow(preset: str, boxes: Callable[[int], np.ndarray], scores: float = 0.9, frames: int = 8) -> Tracks:
    """Return the last of ``frames`` frames of a tracker that is shown ``boxes(step)``."""
    tracker = Tracker(PRESETS[preset])
    for step in range(frames):
        tracks = tracker.update(people(boxes(step), scores=scores))
    return tracks


@pytest.mark.parametrize(
    "numbers",
    [
        {"frame_index": 4},
        {"frame_index": 3},
        {"frame_index": -1},
        {"timestamp_s": 0.4},
        {"timestamp_s": 0.1},
        {"timestamp_s": -1.0},
        {"timestamp_s": float("nan")},
        {"timestamp_s": float("inf")},
        {"timestamp_s": float("-inf")},
        {"frame_index": 9, "timestamp_s": 0.4},
        {"frame_index": 4, "timestamp_s": 0.9},
        {"camera_motion": np.eye(3)},
        {"camera_motion": np.zeros((2, 3))},
        {"camera_motion": np.array([[1, 0, np.nan], [0, 1, 0]])},
        {"camera_motion": np.array([[1.0, 0, np.inf], [0, 1, 0]])},
    ],
)
def test_a_refused_frame_leaves_no_trace(preset: str, numbers: dict[str, Any]) -> None:
    tracker = running(preset)
    before = tracker.to_arrays()
    with pytest.raises(InvalidInputError) as caught:
        tracker.update(people(BOXES + 5, np.eye(2, 4, dtype=np.float32)), **numbers)
    # Expected, found and what to do.
    assert "must be" in str(caught.value)
    assert "got" in str(caught.value)
    assert ";" in str(caught.value)
    assert_unchanged(tracker, before)
    tracks = tracker.update(people(BOXES + 5, np.eye(2, 4, dtype=np.float32)), frame_index=5, timestamp_s=0.5)
    assert tracks.ids.tolist() == [1, 2]


@pytest.mark.parametrize("embeddings", [np.zeros((2, 4)), np.eye(2, 5), np.ones((2, 1)), np.ones((2, 0))])
def test_embeddings_without_direction_or_of_another_width_are_refused(preset: str, embeddings: np.ndarray) -> None:
    tracker = running(preset)
    before = tracker.to_arrays()
    if PRESETS[preset].appearance:
        # Far from where the tracks went: there a missing embedding was not spared.
        frame = people(BOXES + 500, embeddings.astype(np.float32))
        with pytest.raises(InvalidInputError, match="embeddings must"):
            tracker.update(frame, frame_index=5, timestamp_s=0.5)
        assert_unchanged(tracker, before)
    else:
        frame = people(BOXES + 5, embeddings.astype(np.float32))
        assert tracker.update(frame, frame_index=5, timestamp_s=0.5).ids.tolist() == [1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["boxes", "scores", "embeddings"])
def test_numbers_that_are_none_never_become_detections(where: str, value: float) -> None:
    columns: dict[str, Any] = {
        "boxes": BOXES.copy(),
        "scores": np.full(2, 0.9),
        "labels": np.zeros(2, int),
        "embeddings": np.ones((2, 4), np.float32),
    }
    columns[where][1, ...] = value
    with pytest.raises(InvalidInputError, match="must be finite"):
        Detections(**columns)


@pytest.mark.parametrize("label", [-1, -(2**62)])
def test_negative_labels_never_become_detections(label: int) -> None:
    with pytest.raises(InvalidInputError, match="labels must be >= 0"):
        Detections(BOXES, np.full(2, 0.9), np.array([0, label]))


def test_boxes_of_zero_size_take_no_part(preset: str) -> None:
    flat = np.array([[10.0, 10, 10, 90], [10, 10, 90, 10], [50, 50, 50, 50]])
    tracker = Tracker(PRESETS[preset])
    for _ in range(4):
        assert len(tracker.update(people(flat))) == 0
    assert len(tracker) == 0
    for step in range(5):
        tracks = tracker.update(people(np.concatenate([flat, BOXES + step])))
    assert tracks.detection_index.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("name", "boxes"),
    [
        ("far away", lambda step: BOXES + 1e7 + 2 * step),
        ("far away on the other side", lambda step: BOXES - 1e7 - 2 * step),
        ("negative", lambda step: BOXES - 1000 + step),
        ("tiny", lambda step: (BOXES + step) * 1e-5),
        ("thin", lambda step: np.array([[10, 10 + step, 2000, 10.001 + step]])),
        ("tall", lambda step: np.array([[10 + step, 0, 10.001 + step, 2000]])),
        ("huge", lambda step: (BOXES + step) * 1e5),
        ("tiny beside huge", lambda step: np.array([[0, 0, 1e-3, 1e-3], [0, 0, 1e7, 1e7]])),
    ],
)
def test_boxes_of_any_place_and_size_are_followed_or_left_but_never_break(
    preset: str, name: str, boxes: Callable[[int], np.ndarray]
) -> None:
    tracks = follow(preset, boxes)
    assert np.isfinite(tracks.boxes).all()
    assert (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all()
    if name in ("far away", "far away on the other side", "negative", "huge"):
        assert tracks.ids.tolist() == [1, 2]


@pytest.mark.parametrize("score", [1.0, 1.5, 300.0, 1e30])
def test_scores_above_one_are_sure_detections(preset: str, score: float) -> None:
    tracks = follow(preset, lambda step: BOXES + step, scores=score)
    assert tracks.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.boxes, BOXES + 7, atol=5)


@pytest.mark.parametrize("score", [0.0, -0.5, -1e30])
def test_scores_below_every_limit_are_no_detections(preset: str, score: float) -> None:
    assert len(follow(preset, lambda step: BOXES + step, scores=score)) == 0


def test_results_are_values_of_their_own(preset: str) -> None:
    """Writing into what a tracker returned, or into what it was given, changes nothing inside."""
    tracker, frame = running(preset), people(BOXES + 5, np.eye(2, 4, dtype=np.float32))
    twin = running(preset)
    tracks = tracker.update(frame, frame_index=5, timestamp_s=0.5)
    twin.update(people(BOXES + 5, np.eye(2, 4, dtype=np.float32)), frame_index=5, timestamp_s=0.5)
    for name in TRACK_FIELDS:
        getattr(tracks, name)[...] = 7
    frame.boxes[...] = 1
    assert frame.embeddings is not None
    frame.embeddings[...] = 1
    assert_unchanged(tracker, twin.to_arrays())


@pytest.mark.parametrize("frame_index", [5.5, float("nan"), 2**70])
def test_frame_numbers_are_whole_and_can_be_saved(frame_index: float) -> None:
    tracker = Tracker()
    with pytest.raises(InvalidInputError, match="whole number"):
        tracker.update(Detections.empty(), frame_index=frame_index)  # type: ignore[arg-type]
    tracker.update(Detections.empty(), frame_index=0)


def test_numbers_that_would_overflow_are_refused_before_anything_moves() -> None:
    tracker = Tracker(TrackerConfig(nominal_fps=25, n_init=1))
    box = Detections(np.array([[0, 0, 10, 20]]), np.array([0.9]), np.array([0]))
    tracker.update(box, timestamp_s=0.0)
    with pytest.raises(InvalidInputError, match="within 1e"):
        tracker.update(Detections(np.array([[0, 0, 1e37, 1e37]]), np.array([0.9]), np.array([0])), timestamp_s=1.0)
    with pytest.raises(InvalidInputError, match="scales by more than"):
        tracker.update(box, timestamp_s=1.0, camera_motion=np.array([[1e200, 0, 0], [0, 1e200, 0]]))
    assert np.isfinite(tracker.update(box, timestamp_s=1e300).boxes).all()
