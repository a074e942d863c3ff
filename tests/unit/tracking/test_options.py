"""What each option after DeepSORT changes, on scenes small enough to follow by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vision.tracking import kalman
from vision.tracking.config import TrackerConfig
from vision.tracking.cost import height_iou
from vision.tracking.gallery import Gallery
from vision.tracking.observation import momentum, replay
from vision.tracking.shared_motion import shared_shift
from vision.tracking.table import TrackTable
from vision.tracking.tracker import Tracker
from vision.types import Detections, Tracks

PLAIN = {"appearance": False, "cascade": False, "gate": 0.0, "n_init": 1}


def seen(*boxes: tuple[float, ...], scores: list[float] | None = None, looks: object = None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores or [0.9] * count, np.float32),
        np.zeros(count, np.int64),
        None if looks is None else np.array(looks, np.float32),
    )


def box(x: float, y: float = 100, width: float = 40, height: float = 100) -> tuple[float, ...]:
    return (x, y, x + width, y + height)


def test_an_unsure_detection_continues_a_track_but_begins_none() -> None:
    tracker = Tracker(TrackerConfig(**PLAIN, high_conf=0.6, low_conf=0.1))
    tracker.update(seen(box(0)))
    tracks = tracker.update(seen(box(2), box(500), scores=[0.2, 0.2]))
    assert tracks.ids.tolist() == [1]
    assert tracks.detection_index.tolist() == [0]
    assert len(tracker) == 1


def test_below_low_conf_nothing_is_seen_and_birth_needs_its_own_score() -> None:
    tracker = Tracker(TrackerConfig(**PLAIN, high_conf=0.6, low_conf=0.3, birth_conf=0.8))
    assert len(tracker.update(seen(box(0), scores=[0.7]))) == 0
    tracker.update(seen(box(0), scores=[0.85]))
    assert tracker.update(seen(box(1), scores=[0.29])).ids.tolist() == []


def test_confirm_first_holds_for_the_first_frame_alone() -> None:
    tracker = Tracker(TrackerConfig(**{**PLAIN, "n_init": 3}, confirm_first=True))
    assert tracker.update(seen(box(0))).ids.tolist() == [1]
    assert tracker.update(seen(box(0), box(500))).ids.tolist() == [1]


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_relative_limits_follow_the_scores_of_the_stream(scale: float) -> None:
    tracker = Tracker(TrackerConfig(**PLAIN, relative_conf=True, high_conf=0.8, birth_conf=0.9))
    for step in range(5):
        tracker.update(seen(box(step), scores=[0.9 * scale]))
    tracks = tracker.update(seen(box(5), box(300), box(600), scores=[0.9 * scale, 0.85 * scale, 0.6 * scale]))
    assert tracks.ids.tolist() == [1, 2]
    np.testing.assert_allclose(tracks.scores, [0.9 * scale, 0.85 * scale], rtol=1e-6)


def test_seconds_decide_the_age_where_there_are_timestamps() -> None:
    config = TrackerConfig(**PLAIN, max_age=30, max_age_s=0.5)
    quick, slow = Tracker(config), Tracker(config)
    for tracker, step in ((quick, 0.1), (slow, 0.3)):
        tracker.update(seen(box(0)), timestamp_s=0.0)
        tracker.update(seen(), timestamp_s=step)
        tracker.update(seen(), timestamp_s=2 * step)
    assert (len(quick), len(slow)) == (1, 0)


def test_frames_that_were_left_out_count_for_the_age_and_for_the_prediction() -> None:
    tracker = Tracker(TrackerConfig(**PLAIN, max_age=5))
    for index in range(10):
        tracker.update(seen(box(8.0 * index)), frame_index=index)
    tracks = tracker.update(seen(box(8.0 * 13)), frame_index=13)
    assert tracks.ids.tolist() == [1]
    assert tracks.ages.tolist() == [13]
    tracker.update(seen(), frame_index=19)
    assert len(tracker) == 0


def test_shared_motion_takes_hidden_tracks_along() -> None:
    def ids(shared: bool) -> list[int]:
        tracker = Tracker(TrackerConfig(**PLAIN, shared_motion=shared, max_iou_distance=0.7))
        everybody = [box(0), box(150), box(300), box(450)]
        tracker.update(seen(*everybody, box(900)))
        tracker.update(seen(*everybody))
        jerk = 12.0
        moved = [box(float(place[0]) + jerk) for place in everybody]
        tracker.update(seen(*moved))
        # The fifth comes back 16 pixels further on: 28 from where it was last seen.
        return tracker.update(seen(*moved, box(900 + jerk + 16))).ids.tolist()

    assert ids(True) == [1, 2, 3, 4, 5]
    assert ids(False) == [1, 2, 3, 4, 6]


def test_the_shared_shift_is_the_median_of_sure_pairs_and_needs_three() -> None:
    tracks = np.array([box(0), box(200), box(400)], np.float64)
    moved = tracks + np.array([5, -3, 5, -3])
    moved[2] += [2, 0, 2, 0]
    np.testing.assert_allclose(shared_shift(tracks, moved), [5, -3])
    assert shared_shift(tracks[:2], moved[:2]) is None
    assert shared_shift(tracks, moved + 1000) is None


def test_height_iou_tells_distances_apart() -> None:
    track = np.array([box(0)], np.float64)
    same, shorter = np.array([box(4)], np.float64), np.array([box(0, y=150, height=50)], np.float64)
    assert height_iou(track, same)[0] == 1
    assert height_iou(track, shorter)[0] == pytest.approx(0.5)


def test_a_lost_track_gives_way_to_one_just_seen() -> None:
    def winner(penalty: float) -> Tracks:
        tracker = Tracker(TrackerConfig(**PLAIN, lost_penalty=penalty, max_iou_distance=0.9))
        tracker.update(seen(box(0), box(25)))
        tracker.update(seen(box(25)))
        return tracker.update(seen(box(11)))

    assert winner(0.0).ids.tolist() == [1]
    assert winner(0.3).ids.tolist() == [2]


def test_a_running_mean_replaces_the_gallery() -> None:
    gallery = Gallery(100, 2, 1, ema=0.9)
    row = np.array([0])
    gallery.add(row, np.array([[1, 0]], np.float32))
    gallery.add(row, np.array([[0, 1]], np.float32))
    assert gallery.embeddings.shape == (1, 1, 2)
    np.testing.assert_allclose(gallery.embeddings[0, 0], np.array([0.9, 0.1]) / np.hypot(0.9, 0.1), rtol=1e-6)
    opposite = Gallery(1, 2, 1, ema=0.5)
    for look in ([1, 0], [-1, 0]):
        opposite.add(row, np.array([look], np.float32))
    np.testing.assert_allclose(opposite.embeddings[0, 0], [-1, 0])


@pytest.mark.parametrize("fusion", ["appearance", "weighted", "minimum"])
def test_two_people_who_swap_places_are_told_by_their_looks(fusion: str) -> None:
    gate = 9.4877 if fusion == "weighted" else 0.0
    settings = {"cascade": False, "n_init": 1, "gate": gate, "fusion": fusion, "max_iou_distance": 0.9}
    left, right = [1.0, 0.0], [0.0, 1.0]
    tracker = Tracker(TrackerConfig(**settings))
    for _ in range(3):
        tracker.update(seen(box(0), box(12), looks=[left, right]))
    tracks = tracker.update(seen(box(2), box(10), looks=[right, left]))
    assert dict(zip(tracks.ids.tolist(), tracks.detection_index.tolist(), strict=True)) == {1: 1, 2: 0}


def test_sure_detections_move_the_filter_more_with_nsa() -> None:
    def after(score: float) -> float:
        tracker = Tracker(TrackerConfig(**PLAIN, nsa=True))
        tracker.update(seen(box(0)))
        return float(tracker.update(seen(box(10), scores=[score])).boxes[0, 0])

    assert after(0.95) > after(0.35)


def test_detected_boxes_are_reported_as_they_were() -> None:
    tracker = Tracker(TrackerConfig(**PLAIN, output_boxes="detected", output_coasting=1))
    tracker.update(seen(box(0)))
    np.testing.assert_array_equal(tracker.update(seen(box(7))).boxes[0], box(7))
    assert len(tracker.update(seen())) == 1


def looking_back(*centres: tuple[float, float]) -> TrackTable:
    table = TrackTable(observations=True)
    table.append(1)
    table["past"][0] = centres[-3:]
    table["observed"][0] = (*centres[-1], 0.4, 100)
    return table


def test_momentum_prefers_straight_on() -> None:
    table, rows = looking_back((0, 0), (10, 0), (20, 0)), np.array([0, 0, 0])
    ahead = momentum(table, rows, np.array([[30.0, 0], [20, 10], [10, 0]]), np.ones(3))
    np.testing.assert_allclose(ahead, [0.5, 0, -0.5], atol=1e-6)
    still = momentum(looking_back((5, 5), (5, 5), (5, 5)), rows[:1], np.array([[9.0, 9]]), np.ones(1))
    np.testing.assert_allclose(still, [0], atol=1e-6)


def test_replay_gives_the_velocity_of_the_gap() -> None:
    noise = kalman.Noise()
    table = TrackTable(observations=True)
    table.append(1)
    first = np.array([[100.0, 50, 0.4, 100]])
    table["mean"], table["covariance"] = kalman.initiate(first, noise)
    table["observed"], table["anchor_mean"], table["anchor_covariance"] = first, table["mean"], table["covariance"]
    replay(table, np.array([0]), np.array([[150.0, 50, 0.4, 100]]), np.array([10]), noise, 1.0)
    assert table["mean"][0, 4] == pytest.approx(5, abs=0.7)
    assert table["mean"][0, 0] == pytest.approx(150, abs=3)


def test_recovery_finds_who_stopped_where_they_were_last_seen() -> None:
    def ids(recovery: bool) -> list[int]:
        tracker = Tracker(TrackerConfig(**PLAIN, recovery=recovery))
        for step in range(6):
            tracker.update(seen(box(15.0 * step)))
        for _ in range(4):
            tracker.update(seen())
        return tracker.update(seen(box(15.0 * 5 + 2))).ids.tolist()

    assert ids(True) == [1]
    assert ids(False) == [2]


def test_a_camera_motion_moves_tracks_before_they_are_matched() -> None:
    pan = np.array([[1.0, 0, 300], [0, 1, 0]])
    tracker = Tracker(TrackerConfig(**PLAIN, momentum=0.2, reupdate=True))
    tracker.update(seen(box(0)))
    assert tracker.update(seen(box(300)), camera_motion=pan).ids.tolist() == [1]


def test_warp_turns_velocities_and_scales_heights() -> None:
    mean = np.array([[10.0, 0, 0.5, 100, 2, 0, 0, 1]])
    turn = np.array([[0.0, -2, 5], [2, 0, 7]])
    warped, spread = kalman.warp(mean, np.ones((1, 3, 4)), turn)
    np.testing.assert_allclose(warped, [[5, 27, 0.5, 200, 0, 4, 0, 2]])
    np.testing.assert_allclose(spread[0, 0], [4, 4, 1, 4])


def test_what_will_be_compared_is_told_beforehand() -> None:
    tracker = Tracker(TrackerConfig(high_conf=0.6, low_conf=0.1))
    detections = seen(box(0), box(100), box(200, width=0), scores=[0.9, 0.3, 0.9])
    assert tracker.compared_rows(detections).tolist() == [0]
    embedded = detections.with_embeddings(np.ones((1, 4), np.float32), np.array([0]))
    tracker.update(embedded)
    assert Tracker(TrackerConfig(appearance=False)).compared_rows(detections).tolist() == []
