"""supervision's Detections: ours there and back, other people's with whatever they leave out."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from io_results import TENTATIVE, make_detections, make_result, make_tracks

from vision.errors import InvalidInputError
from vision.io.supervision import TRACK_DATA, from_supervision, to_supervision, tracks_from_supervision
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, FrameResult, Tracks

BOXES = ((1.5, 2, 30, 40), (5, 6, 7, 8.25))


def test_detections_go_there_and_back_unchanged() -> None:
    embeddings = np.eye(2, 3, dtype=np.float32)
    ours = Detections(np.float32(BOXES), np.float32([0.9, 0.3]), np.int64([0, 2]), embeddings)
    theirs = to_supervision(ours, ("person", "car"))
    assert isinstance(theirs, sv.Detections)
    assert theirs.tracker_id is None
    assert theirs.data["class_name"].tolist() == ["person", "2"]
    back = from_supervision(theirs)
    for name in ("boxes", "scores", "labels", "embeddings"):
        np.testing.assert_array_equal(getattr(back, name), getattr(ours, name))
        assert getattr(back, name).dtype == getattr(ours, name).dtype


def test_tracks_go_there_and_back_unchanged() -> None:
    ours = make_tracks((3, BOXES[0]), (9, BOXES[1]), state=TENTATIVE, missed=2)
    theirs = to_supervision(ours)
    assert theirs.tracker_id.tolist() == [3, 9]
    assert "class_name" not in theirs.data
    assert set(theirs.data) == set(TRACK_DATA)
    back = tracks_from_supervision(theirs)
    for name in TRACK_FIELDS:
        np.testing.assert_array_equal(getattr(back, name), getattr(ours, name))
        assert getattr(back, name).dtype == getattr(ours, name).dtype


def test_selected_rows_keep_what_belongs_to_them() -> None:
    theirs = to_supervision(make_tracks((3, BOXES[0]), (9, BOXES[1])), ("person",))
    back = tracks_from_supervision(theirs[theirs.tracker_id == 9])
    assert back.ids.tolist() == [9]
    assert back.ages.tolist() == [5]


def test_values_are_copies() -> None:
    ours = make_detections(*BOXES)
    theirs = to_supervision(ours)
    back = from_supervision(theirs)
    theirs.xyxy += 100
    assert ours.boxes.tolist() == back.boxes.tolist() == [list(box) for box in BOXES]


@pytest.mark.parametrize("value", [Detections.empty(), Tracks.empty(), FrameResult(0, tracks=Tracks.empty())])
def test_nothing_found(value: Detections | Tracks | FrameResult) -> None:
    theirs = to_supervision(value, ("person",))
    assert len(theirs) == 0
    assert len(from_supervision(theirs)) == 0
    assert len(tracks_from_supervision(theirs)) == 0


def test_their_empty_value_is_nothing_found() -> None:
    assert len(from_supervision(sv.Detections.empty())) == 0
    assert len(tracks_from_supervision(sv.Detections.empty())) == 0


def test_a_frame_result_shows_what_writers_show() -> None:
    coasting = make_tracks((4, BOXES[1]), missed=1)
    seen = make_tracks((3, BOXES[0]))
    tracks = Tracks(*(np.concatenate([getattr(seen, name), getattr(coasting, name)]) for name in TRACK_FIELDS))
    both = make_result(tracks=tracks, detections=make_detections(*BOXES, *BOXES))
    assert to_supervision(both).tracker_id.tolist() == [3]
    assert len(to_supervision(make_result(detections=make_detections(*BOXES)))) == 2
    with pytest.raises(InvalidInputError, match="with neither"):
        to_supervision(make_result())


def test_fields_that_others_leave_out() -> None:
    back = from_supervision(sv.Detections(xyxy=np.array(BOXES)))
    assert back.scores.tolist() == [1, 1]
    assert back.labels.tolist() == [0, 0]
    assert back.embeddings is None
    tracks = tracks_from_supervision(sv.Detections(xyxy=np.array(BOXES), tracker_id=np.array([7, 2])))
    assert tracks.ids.tolist() == [7, 2]
    assert tracks.detection_index.tolist() == [0, 1]
    assert to_supervision(make_result(tracks=tracks)).tracker_id.tolist() == [7, 2]


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (sv.Detections(xyxy=np.array([[5.0, 5, 1, 9]])), "x1 <= x2"),
        (sv.Detections(xyxy=np.array([[1.0, 5, 1, 9]]), class_id=np.array([-1])), "class_id must be >= 0, got -1"),
        (np.zeros((2, 4)), "got ndarray"),
    ],
)
def test_what_cannot_be_detections(theirs: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        from_supervision(theirs)


@pytest.mark.parametrize(("ids", "message"), [(None, "got None"), ([1, -1], "got -1"), ([1, 1], "unique in a frame")])
def test_what_cannot_be_tracks(ids: list[int] | None, message: str) -> None:
    theirs = sv.Detections(xyxy=np.array(BOXES), tracker_id=None if ids is None else np.array(ids))
    with pytest.raises(InvalidInputError, match=message):
        tracks_from_supervision(theirs)


def test_their_detections_through_our_tracker_into_their_annotator() -> None:
    tracker = Tracker()
    for index in range(4):
        found = sv.Detections(xyxy=np.array(BOXES) + 0.2 * index, confidence=np.array([0.9, 0.8]))
        tracks = to_supervision(tracker.update(from_supervision(found), frame_index=index), ("person",))
    assert tracks.tracker_id.tolist() == [1, 2]
    picture = np.zeros((60, 80, 3), np.uint8)
    assert sv.BoxAnnotator(color_lookup=sv.ColorLookup.TRACK).annotate(picture.copy(), tracks).any()
