from __future__ import annotations

import numpy as np
import pytest

from vision.tracking.config import TrackerConfig
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.recorder import SequenceRecorder
from vision.tracking.tracker import Tracker
from vision.types import Detections, FrameResult

HIDDEN = (6, 7)


def recorded(config: TrackerConfig | None = None) -> tuple[SequenceRecorder, list[FrameResult]]:
    """Return the recorder of two people over 12 frames; the first is hidden in frames 6 and 7."""
    tracker, recorder, results = Tracker(config), SequenceRecorder(), []
    for index in range(12):
        boxes = np.array([[10 + 3 * index, 20, 40 + 3 * index, 110], [300, 40, 330, 130]], np.float32)
        embeddings = np.array([[2, 0, 0], [0, 2, 2]], np.float32)
        rows = [1] if index in HIDDEN else [0, 1]
        detections = Detections(boxes[rows], np.array([0.9, 0.8])[rows], np.zeros(len(rows), int), embeddings[rows])
        tracks = tracker.update(detections, frame_index=index)
        results.append(FrameResult(index, index / 10, detections=detections, tracks=tracks))
        recorder.add(results[-1])
    return recorder, results


def test_trajectories_are_confirmed_tracks_at_their_detections() -> None:
    recorder, results = recorded()
    tracks = recorder.trajectories()
    assert len(recorder) == 12
    assert tracks.of(1).frames.tolist() == [2, 3, 4, 5, 8, 9, 10, 11]
    for frame, box in zip(tracks.of(1).frames.tolist(), tracks.of(1).boxes, strict=True):
        found = results[frame].detections
        assert found is not None
        np.testing.assert_array_equal(box, found.boxes[0])


def test_tentative_frames_of_confirmed_tracks_are_kept_when_reported() -> None:
    recorder, _ = recorded(TrackerConfig(output_tentative=True))
    assert recorder.trajectories().of(2).frames.tolist() == list(range(12))


def test_coasting_rows_are_left_to_the_refinement() -> None:
    recorder, _ = recorded(TrackerConfig(output_coasting=5))
    assert not set(HIDDEN) & set(recorder.trajectories().of(1).frames.tolist())


def test_embeddings_are_averaged_to_unit_norm() -> None:
    appearance = recorded()[0].appearance()
    np.testing.assert_allclose(appearance[1], [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(appearance[2], [0, 0.70710678, 0.70710678], atol=1e-6)


def test_results_carry_refined_tracks_that_every_writer_takes() -> None:
    recorder, results = recorded()
    again = list(recorder.results(OfflineConfig()))
    assert [result.frame_index for result in again] == list(range(12))
    assert [result.timestamp_s for result in again] == [result.timestamp_s for result in results]
    for result in again[2:]:
        assert result.tracks is not None
        assert result.detections is not None
        assert result.detections.embeddings is None
        assert result.tracks.ids.tolist() == [1, 2]
        assert (result.tracks.time_since_update == 0).all()
        assert result.tracks.ages.tolist() == [result.frame_index - 2] * 2
        hidden = result.frame_index in HIDDEN
        assert result.tracks.detection_index.tolist() == ([-1, 0] if hidden else [0, 1])


def test_short_tracks_vanish_from_the_results() -> None:
    recorder, _ = recorded()
    assert all(
        result.tracks is not None and not len(result.tracks)
        for result in recorder.results(OfflineConfig(min_length=99))
    )


@pytest.mark.parametrize("result", [FrameResult(0), FrameResult(0, detections=Detections.empty())])
def test_frames_without_tracks(result: FrameResult) -> None:
    recorder = SequenceRecorder()
    assert list(recorder.results()) == []
    recorder.add(result)
    assert len(recorder.trajectories()) == 0
    (again,) = recorder.results()
    assert again.tracks is not None
    assert len(again.tracks) == 0
