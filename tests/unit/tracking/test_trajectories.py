from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.trajectories import TRAJECTORY_FIELDS, Trajectories
from vision.types import FrameResult, Tracks, TrackState


def rows(*pairs: tuple[int, int], **columns: Any) -> Trajectories:
    """Return one row for each (frame, id), its box at x = frame and y = id."""
    frames, ids = np.array(pairs, np.int64).reshape(-1, 2).T
    boxes = np.stack([frames, ids, frames + 10, ids + 20], axis=1).astype(np.float32)
    given = {"frames": frames, "ids": ids, "boxes": boxes, "scores": np.ones(len(boxes)), "labels": ids * 0}
    return Trajectories(**{**given, "filled": np.zeros(len(boxes), bool), **columns})


def test_rows_are_sorted_by_frame_and_id() -> None:
    sorted_rows = rows((2, 1), (0, 5), (0, 3))
    assert sorted_rows.frames.tolist() == [0, 0, 2]
    assert sorted_rows.ids.tolist() == [3, 5, 1]
    assert sorted_rows.boxes[:, :2].tolist() == [[0, 3], [0, 5], [2, 1]]


def test_dtypes_are_fixed() -> None:
    made = rows((0, 1), frames=np.array([0], np.int32), scores=np.array([0.5]), filled=np.array([1]))
    assert [getattr(made, name).dtype for name in TRAJECTORY_FIELDS] == [
        np.int64,
        np.int64,
        np.float32,
        np.float32,
        np.int64,
        np.bool_,
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"frames": np.array([-1])}, "frames must be >= 0, got -1"),
        ({"ids": np.array([-1])}, "ids must be >= 0, got -1"),
        ({"labels": np.array([-1])}, "labels must be >= 0"),
        ({"frames": np.array([0.5])}, "frames must be whole numbers, got float64"),
        ({"scores": np.array([np.nan])}, "scores must be finite"),
        ({"scores": np.ones(2)}, r"scores must be \[N\]"),
        ({"boxes": np.array([[3.0, 0, 1, 1]])}, "boxes must be xyxy"),
        ({"boxes": np.array([[np.inf, 0, 1, 1]])}, "boxes must be finite"),
    ],
)
def test_malformed_columns_are_refused(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        rows((0, 1), **columns)


def test_one_id_twice_in_a_frame_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="two of id 7 in frame index 4"):
        rows((4, 7), (5, 7), (4, 7))


def test_selection_and_parts() -> None:
    made = rows((0, 1), (0, 2), (1, 1), (3, 2))
    assert made[made.ids == 2].frames.tolist() == [0, 3]
    assert made[np.array([3, 0])].frames.tolist() == [0, 3]
    assert made[1:].ids.tolist() == [2, 1, 2]
    assert made.track_ids.tolist() == [1, 2]
    assert made.of(1).frames.tolist() == [0, 1]
    assert len(made.of(9)) == 0
    assert made.at(0).ids.tolist() == [1, 2]
    assert len(made.at(2)) == 0
    assert [(track_id, part.frames.tolist()) for track_id, part in made.split()] == [(1, [0, 1]), (2, [0, 3])]


def test_concat_restores_what_split_took_apart() -> None:
    made = rows((0, 1), (0, 2), (1, 1), (3, 2))
    whole = Trajectories.concat([part for _, part in made.split()])
    for name in TRAJECTORY_FIELDS:
        np.testing.assert_array_equal(getattr(whole, name), getattr(made, name))


def test_empty() -> None:
    empty = Trajectories.empty()
    assert len(empty) == 0
    assert list(empty.split()) == []
    assert len(Trajectories.concat([])) == 0
    assert len(Trajectories.concat([empty, empty])) == 0
    assert len(empty.at(0)) == 0
    assert len(empty[np.zeros(0, bool)]) == 0


def test_results_give_confirmed_tracks_seen_in_the_frame() -> None:
    tracks = Tracks(
        boxes=np.array([[0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1]], np.float32),
        ids=np.array([3, 1, 2]),
        scores=np.array([0.9, 0.8, 0.7], np.float32),
        labels=np.array([0, 1, 2]),
        states=np.array([TrackState.CONFIRMED, TrackState.TENTATIVE, TrackState.CONFIRMED]),
        ages=np.array([5, 1, 5]),
        time_since_update=np.array([0, 0, 2]),
        detection_index=np.array([0, 1, -1]),
    )
    results = [FrameResult(4, tracks=tracks), FrameResult(5, tracks=Tracks.empty()), FrameResult(6)]
    made = Trajectories.from_results(results)
    assert (made.frames.tolist(), made.ids.tolist(), made.labels.tolist()) == ([4], [3], [0])
    assert not made.filled.any()
    assert len(Trajectories.from_results([])) == 0
    assert len(Trajectories.from_results([FrameResult(0)])) == 0
