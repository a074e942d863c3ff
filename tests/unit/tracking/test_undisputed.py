"""Which detections are looked at: rivals always, an object that stands apart only now and then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections

LOOKS = np.eye(8, dtype=np.float32)


def seen(*lefts: float, looks: np.ndarray | None = None, labels: list[int] | None = None) -> Detections:
    boxes = np.array([[left, 100, left + 40, 200] for left in lefts], np.float32).reshape(-1, 4)
    looks = LOOKS[: len(lefts)] if looks is None else looks
    return Detections(boxes, np.full(len(lefts), 0.9, np.float32), np.array(labels or [0] * len(lefts)), looks)


def spared(detections: Detections, rows: np.ndarray) -> Detections:
    assert detections.embeddings is not None
    return detections.with_embeddings(detections.embeddings[rows], rows)


def running(*lefts: float, every: int = 100) -> Tracker:
    tracker = Tracker(TrackerConfig(n_init=1, appearance_every=every))
    for _ in range(3):
        tracker.update(seen(*lefts))
    return tracker


def test_an_object_apart_is_spared_and_rivals_are_not() -> None:
    tracker = running(0, 500, 515)
    assert tracker.compared_rows(seen(1, 501, 516)).tolist() == [1, 2]


def test_a_newcomer_is_looked_at() -> None:
    assert running(0).compared_rows(seen(0, 300)).tolist() == [1]


def test_a_second_box_on_the_same_object_makes_both_rivals() -> None:
    assert running(0).compared_rows(seen(0, 10)).tolist() == [0, 1]


def test_one_box_on_two_tracks_is_looked_at() -> None:
    assert running(0, 30).compared_rows(seen(12)).tolist() == [0]


def test_a_box_far_from_the_expected_place_is_looked_at() -> None:
    assert running(0).compared_rows(seen(22)).tolist() == [0]


def test_a_track_that_was_missing_is_looked_at() -> None:
    tracker = running(0, 300)
    tracker.update(seen(300))
    assert tracker.compared_rows(seen(0, 300)).tolist() == [0]


def test_another_label_is_looked_at_if_labels_must_agree() -> None:
    tracker = running(0, 300)
    assert tracker.compared_rows(seen(0, 300, labels=[1, 0])).tolist() == [0]
    tracker.config = replace(tracker.config, per_class=False)
    assert tracker.compared_rows(seen(0, 300, labels=[1, 0])).tolist() == []


def test_a_track_without_any_embedding_is_looked_at() -> None:
    tracker = Tracker(TrackerConfig(n_init=1, appearance_every=100))
    tracker.update(seen(0, looks=None).with_embeddings(None))
    tracker.update(seen(0, 300))
    fresh = Tracker(TrackerConfig(n_init=1, appearance_every=100))
    fresh.update(seen(0).with_embeddings(None))
    assert fresh.compared_rows(seen(0)).tolist() == [0]


def test_every_turn_comes_and_ids_take_them_in_different_frames() -> None:
    tracker = Tracker(TrackerConfig(n_init=1, appearance_every=3))
    lefts = [0.0, 300.0, 600.0]
    looked = []
    for _ in range(7):
        rows = tracker.compared_rows(seen(*lefts))
        looked.append(rows.tolist())
        tracker.update(spared(seen(*lefts), rows))
    assert looked[0] == [0, 1, 2]
    assert [len(rows) for rows in looked[1:]] == [1] * 6
    assert {row for rows in looked[1:4] for row in rows} == {0, 1, 2}


def test_one_looks_at_all() -> None:
    assert running(0, 300, every=1).compared_rows(seen(0, 300)).tolist() == [0, 1]
    with pytest.raises(InvalidInputError, match="zero vector"):
        running(0, every=1).update(seen(0, looks=np.zeros((1, 8), np.float32)))


def test_a_zero_embedding_where_nothing_was_spared_is_refused() -> None:
    tracker = running(0)
    with pytest.raises(InvalidInputError, match="zero vector in row 0"):
        tracker.update(seen(200, looks=np.zeros((1, 8), np.float32)))


@pytest.mark.parametrize("preset", ["deepsort", "strongsort", "botsort", "stride32"])
def test_people_who_meet_keep_their_ids_as_if_all_had_been_looked_at(preset: str) -> None:
    def ids(every: int) -> list[list[int]]:
        tracker = Tracker(replace(PRESETS[preset], appearance_every=every))
        history = []
        for step in range(60):
            found = seen(4.0 * step, 240 - 4.0 * step, 600)
            tracks = tracker.update(spared(found, tracker.compared_rows(found)))
            history.append(tracks.ids[np.argsort(tracks.detection_index)].tolist())
        return history

    assert ids(10) == ids(1)
    assert ids(10)[-1] == [1, 2, 3]


def test_whoever_was_spared_keeps_the_embeddings_of_before() -> None:
    tracker = running(0, 300)
    found = seen(1, 301)
    assert tracker.compared_rows(found).tolist() == []
    tracks = tracker.update(spared(found, np.zeros(0, np.intp)))
    assert tracks.ids.tolist() == [1, 2]
    assert tracker.to_arrays()["written"].tolist() == [3, 3]
