from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections, Tracks, TrackState


def detections(
    *boxes: tuple[float, float, float, float],
    embeddings: list[list[float]] | None = None,
    labels: list[int] | None = None,
    scores: list[float] | None = None,
) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or [0.9] * count, np.float32),
        np.array(labels or [0] * count, np.int64),
        None if embeddings is None else np.array(embeddings, np.float32),
    )


def run(tracker: Tracker, *frames: Detections) -> Tracks:
    tracks = Tracks.empty()
    for frame in frames:
        tracks = tracker.update(frame)
    return tracks


BOX, FAR = (100, 100, 140, 200), (800, 100, 840, 200)
EAST, NORTH = [1.0, 0.0], [0.0, 1.0]


def test_a_track_is_confirmed_at_its_third_detection() -> None:
    tracker = Tracker()
    assert [len(tracker.update(detections(BOX))) for _ in range(4)] == [0, 0, 1, 1]
    tracks = tracker.update(detections(FAR, BOX))
    assert tracks.ids.tolist() == [1]
    assert tracks.states.tolist() == [TrackState.CONFIRMED]
    assert tracks.detection_index.tolist() == [1]
    assert tracks.ages.tolist() == [4]
    np.testing.assert_allclose(tracks.boxes[0], BOX, atol=0.5)


def test_tentative_tracks_are_reported_only_when_asked() -> None:
    tracks = run(Tracker(TrackerConfig(output_tentative=True)), detections(BOX))
    assert tracks.states.tolist() == [TrackState.TENTATIVE]
    assert tracks.ids.tolist() == [1]
    assert run(Tracker(TrackerConfig(n_init=1)), detections(BOX)).states.tolist() == [TrackState.CONFIRMED]


def test_a_tentative_track_ends_at_its_first_miss_and_its_id_is_not_reused() -> None:
    tracker = Tracker()
    run(tracker, detections(BOX), detections())
    assert len(tracker) == 0
    assert run(tracker, *[detections(BOX)] * 3).ids.tolist() == [2]


@pytest.mark.parametrize(("missing", "alive"), [(3, True), (4, False)])
def test_a_confirmed_track_ends_after_max_age(missing: int, alive: bool) -> None:
    tracker = Tracker(TrackerConfig(max_age=3))
    run(tracker, *[detections(BOX)] * 3, *[detections()] * missing)
    assert len(tracker) == int(alive)


def test_coasting_tracks_are_reported_at_their_predicted_place() -> None:
    tracker = Tracker(TrackerConfig(output_coasting=1))
    run(tracker, *[detections((x, 100, x + 40, 200)) for x in range(100, 180, 8)])
    tracks = tracker.update(detections())
    assert tracks.time_since_update.tolist() == [1]
    assert tracks.detection_index.tolist() == [-1]
    assert tracks.boxes[0, 0] == pytest.approx(180, abs=4)
    assert len(tracker.update(detections())) == 0


def test_appearance_brings_an_id_back_after_an_absence_that_overlap_cannot_bridge() -> None:
    def scene(config: TrackerConfig) -> list[int]:
        tracker = Tracker(config)
        seen = detections(BOX, embeddings=[EAST])
        run(tracker, *[seen] * 10, *[detections()] * 20)
        moved = detections((145, 100, 185, 200), embeddings=[EAST])
        return run(tracker, *[moved] * 3).ids.tolist()

    assert scene(TrackerConfig()) == [1]
    assert scene(TrackerConfig(appearance=False)) == [2]


def test_appearance_keeps_ids_of_objects_that_swap_places() -> None:
    tracker = Tracker()
    left, right = (100, 100, 140, 200), (125, 100, 165, 200)
    run(tracker, *[detections(left, right, embeddings=[EAST, NORTH])] * 5)
    tracks = tracker.update(detections((112, 100, 152, 200), (113, 100, 153, 200), embeddings=[NORTH, EAST]))
    assert tracks.ids[np.argsort(tracks.detection_index)].tolist() == [2, 1]


def test_embeddings_may_come_and_go() -> None:
    tracker = Tracker()
    for index in range(10):
        tracks = tracker.update(detections(BOX, FAR, embeddings=[EAST, NORTH] if index % 3 else None))
    assert tracks.ids.tolist() == [1, 2]


def test_embeddings_of_any_length_count_by_direction() -> None:
    tracker = Tracker()
    for scale in (1.0, 50.0, 0.01, 7.0):
        tracks = tracker.update(detections(BOX, embeddings=[[scale, 0.0]]))
    assert tracks.ids.tolist() == [1]


def test_labels_must_match_unless_told_otherwise() -> None:
    frames = [detections(BOX, labels=[label]) for label in (1, 1, 1, 2, 2, 2)]
    assert run(Tracker(), *frames).ids.tolist() == [2]
    tracks = run(Tracker(TrackerConfig(per_class=False)), *frames)
    assert tracks.ids.tolist() == [1]
    assert tracks.labels.tolist() == [2]


def test_boxes_without_area_and_low_scores_take_no_part_and_keep_row_numbers() -> None:
    flat, thin, faint = (5, 5, 50, 5), (5, 5, 5, 50), (500, 500, 540, 600)
    frame = detections(flat, thin, faint, BOX, scores=[0.9, 0.9, 0.1, 0.9])
    tracks = run(Tracker(), *[frame] * 3)
    assert tracks.detection_index.tolist() == [3]
    assert tracks.ids.tolist() == [1]


def test_a_changed_embedding_width_is_refused_and_changes_nothing() -> None:
    tracker = Tracker()
    run(tracker, *[detections(BOX, embeddings=[EAST])] * 3)
    with pytest.raises(InvalidInputError, match=r"width 2 .* got 3"):
        tracker.update(detections(BOX, embeddings=[[1.0, 0, 0]]), frame_index=7)
    assert tracker.update(detections(BOX, embeddings=[EAST]), frame_index=7).ages.tolist() == [3]


def test_a_zero_embedding_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="norm above 0"):
        Tracker().update(detections(BOX, embeddings=[[0.0, 0.0]]))


@pytest.mark.parametrize("times", [{"frame_index": 3}, {"timestamp_s": 0.5}])
def test_time_must_advance(times: dict[str, float]) -> None:
    tracker = Tracker()
    tracker.update(detections(BOX), **times)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be above"):
        tracker.update(detections(BOX), **times)  # type: ignore[arg-type]
    tracker.reset()
    tracker.update(detections(BOX), **times)  # type: ignore[arg-type]


def test_a_timestamp_must_be_a_number() -> None:
    with pytest.raises(InvalidInputError, match="finite"):
        Tracker().update(detections(BOX), timestamp_s=float("nan"))


def test_timestamps_stretch_the_prediction_over_dropped_frames() -> None:
    tracker = Tracker(TrackerConfig(nominal_fps=10, output_coasting=5))
    for index in range(20):
        tracker.update(detections((100 + 5 * index, 100, 140 + 5 * index, 200)), timestamp_s=index / 10)
    tracks = tracker.update(detections(), timestamp_s=1.9 + 0.4)
    assert tracks.boxes[0, 0] == pytest.approx(100 + 5 * 23, abs=3)


def test_reset_forgets_tracks_but_not_ids() -> None:
    tracker = Tracker()
    run(tracker, *[detections(BOX, embeddings=[EAST])] * 3)
    tracker.reset()
    assert len(tracker) == 0
    assert run(tracker, *[detections(BOX, embeddings=[[1.0, 0, 0]])] * 3).ids.tolist() == [2]


def test_more_tracks_than_the_first_capacity() -> None:
    rng = np.random.default_rng(0)
    corner = np.stack(np.meshgrid(np.arange(15) * 100.0, np.arange(15) * 100.0), axis=-1).reshape(-1, 2)
    looks = rng.standard_normal((225, 16)).tolist()
    tracker = Tracker()
    for count in (20, 100, 225, 225, 225, 150, 150):
        boxes = [(x, y, x + 30, y + 60) for x, y in corner[:count]]
        tracks = tracker.update(detections(*boxes, embeddings=looks[:count]))
    assert tracks.ids.tolist() == list(range(1, 151))
    assert tracks.detection_index.tolist() == list(range(150))


def test_a_box_that_shrinks_out_of_sight_never_turns_inside_out() -> None:
    tracker = Tracker(TrackerConfig(output_coasting=30))
    for index in range(8):
        tracker.update(detections((100, 100, 140 - 4 * index, 180 - 8 * index)))
    for _ in range(30):
        tracks = tracker.update(detections())
        assert len(tracks) == 1
        assert (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()


def test_sort_follows_a_walker_without_embeddings() -> None:
    tracks = run(Tracker(PRESETS["sort"]), *[detections((x, 100, x + 40, 200)) for x in range(100, 300, 8)])
    assert tracks.ids.tolist() == [1]


def test_the_package_loads_no_torch() -> None:
    code = "import sys, vision.tracking.tracker; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
