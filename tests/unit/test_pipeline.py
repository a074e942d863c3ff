"""The frame's path with stand-in stages: who is called with what, order, errors, overlap, closing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInputError, StateError
from vision.pipeline import QUEUE_DEPTH, Pipeline
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Classification, Detections, Frame, FrameResult

PATIENCE_S = 30.0


def frames(count: int) -> list[Frame]:
    return [Frame(np.full((40, 60, 3), i, np.uint8), i, i / 10, "made up") for i in range(count)]


def box_at(x: float, score: float = 0.9) -> Detections:
    return Detections(
        np.array([[x, 5, x + 10, 35]], np.float32), np.array([score], np.float32), np.array([1], np.int64)
    )


class BoxDetector:
    """Finds one box whose place tells the frame's number."""

    class_names = ("background", "person")

    def __init__(self) -> None:
        self.seen: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.seen += [frame.index for frame in frames]
        return [box_at(frame.index) for frame in frames]


class UnitEmbedder:
    """Gives every box the same unit vector."""

    def __init__(self) -> None:
        self.boxes: list[np.ndarray] = []

    def embed(self, frame: Frame, boxes: np.ndarray) -> np.ndarray:
        self.boxes.append(boxes)
        return np.eye(4, dtype=np.float32)[np.zeros(len(boxes), int)]


def consume(pairs: Iterator[tuple[Frame, FrameResult]], seen: list[int]) -> None:
    for frame, _ in pairs:
        seen.append(frame.index)


def make_pipeline(**stages: Any) -> Pipeline:
    return Pipeline(**stages)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "stride32-prefetch"] == []


def test_every_stage_adds_its_part() -> None:
    embedder = UnitEmbedder()
    pipeline = make_pipeline(
        detector=BoxDetector(), embedder=embedder, tracker=Tracker(TrackerConfig(n_init=1, appearance_every=1))
    )
    assert pipeline.class_names == ("background", "person")
    results = [pipeline.process(frame) for frame in frames(3)]
    last = results[-1]
    assert (last.frame_index, last.timestamp_s, last.source, last.size_hw) == (2, 0.2, "made up", (40, 60))
    assert last.detections is not None
    assert last.detections.embeddings is not None
    assert last.detections.boxes[0, 0] == 2
    np.testing.assert_array_equal(embedder.boxes[2], last.detections.boxes)
    assert last.tracks is not None
    assert last.tracks.ids.tolist() == [1]
    assert last.tracks.detection_index.tolist() == [0]
    assert list(last.timings_ms) == ["detect", "embed", "track"]
    assert all(value >= 0 for value in last.timings_ms.values())


class PanningCamera:
    """Tells every picture apart by 5 pixels to the right."""

    def __init__(self) -> None:
        self.boxes: list[np.ndarray] = []

    def estimate(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        assert image.shape == (40, 60, 3)
        self.boxes.append(boxes)
        return np.array([[1.0, 0, 5], [0, 1, 0]])

    def undo(self) -> None:
        self.boxes.pop()


def test_camera_motion_stands_between_the_detector_and_the_tracker() -> None:
    camera = PanningCamera()
    pipeline = make_pipeline(detector=BoxDetector(), camera=camera, tracker=Tracker(TrackerConfig(n_init=1)))
    results = [pipeline.process(frame, box_at(5 * frame.index)) for frame in frames(3)]
    assert list(results[-1].timings_ms) == ["camera", "track"]
    assert [boxes[0, 0] for boxes in camera.boxes] == [0, 5, 10]
    # The track stands still in the world: its box is where the pan puts it, without any velocity to learn.
    assert results[-1].tracks is not None
    np.testing.assert_allclose(results[-1].tracks.boxes[0], [10, 5, 20, 35], atol=1e-4)
    # A frame that the tracker refuses is forgotten by the camera too.
    with pytest.raises(InvalidInputError, match="must be above"):
        pipeline.process(frames(1)[0])
    assert len(camera.boxes) == 3


def test_camera_motion_is_not_asked_without_a_tracker() -> None:
    camera = PanningCamera()
    result = make_pipeline(detector=BoxDetector(), camera=camera).process(frames(1)[0])
    assert (camera.boxes, list(result.timings_ms)) == ([], ["detect"])


def test_stages_may_be_absent() -> None:
    (frame,) = frames(1)
    result = make_pipeline().process(frame)
    assert (result.detections, result.tracks, dict(result.timings_ms)) == (None, None, {})
    assert make_pipeline().class_names == ()
    result = make_pipeline(detector=BoxDetector()).process(frame)
    assert result.tracks is None
    assert result.detections is not None
    assert result.detections.embeddings is None
    result = make_pipeline(tracker=Tracker(TrackerConfig())).process(frame)
    assert result.tracks is not None
    assert len(result.tracks) == 0


def test_given_detections_take_the_detectors_place() -> None:
    detector, embedder = BoxDetector(), UnitEmbedder()
    pipeline = make_pipeline(detector=detector, embedder=embedder)
    result = pipeline.process(frames(1)[0], box_at(33))
    assert detector.seen == []
    assert result.detections is not None
    assert result.detections.boxes[0, 0] == 33
    assert result.detections.embeddings is not None
    assert list(result.timings_ms) == ["embed"]


def test_given_empty_detections_are_not_replaced() -> None:
    detector = BoxDetector()
    result = make_pipeline(detector=detector).process(frames(1)[0], Detections.empty())
    assert detector.seen == []
    assert result.detections is not None
    assert len(result.detections) == 0


def test_run_gives_each_frame_with_its_result_in_order() -> None:
    given = frames(40)
    pairs = list(make_pipeline(detector=BoxDetector()).run(given))
    assert [frame.index for frame, _ in pairs] == list(range(40))
    for frame, result in pairs:
        assert frame is given[frame.index]
        assert result.frame_index == frame.index
        assert result.detections is not None
        assert result.detections.boxes[0, 0] == frame.index


def test_run_equals_process() -> None:
    one, other = (make_pipeline(detector=BoxDetector(), tracker=Tracker(TrackerConfig())) for _ in range(2))
    for (_, result), frame in zip(one.run(frames(12)), frames(12), strict=True):
        alone = other.process(frame)
        assert result.tracks is not None
        assert alone.tracks is not None
        np.testing.assert_array_equal(result.tracks.boxes, alone.tracks.boxes)
        np.testing.assert_array_equal(result.tracks.ids, alone.tracks.ids)


def test_run_of_no_frames() -> None:
    assert list(make_pipeline(detector=BoxDetector()).run([])) == []


def test_an_error_of_reading_comes_after_the_results_before_it() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(3)
        raise InvalidInputError("the file ends here")

    seen: list[int] = []
    with pytest.raises(InvalidInputError, match="the file ends here"):
        consume(make_pipeline(detector=BoxDetector()).run(broken()), seen)
    assert seen == [0, 1, 2]


def test_an_error_of_a_stage_comes_after_the_results_before_it() -> None:
    class Failing(BoxDetector):
        def detect(self, frames: Sequence[Frame]) -> list[Detections]:
            if frames[0].index == 2:
                raise ValueError("out of memory, say")
            return super().detect(frames)

    seen: list[int] = []
    with pytest.raises(ValueError, match="out of memory"):
        consume(make_pipeline(detector=Failing()).run(frames(100)), seen)
    assert seen == [0, 1]


def test_stopping_early_reads_only_a_few_frames_ahead() -> None:
    read: list[int] = []

    def endless() -> Iterator[Frame]:
        image = np.zeros((8, 8, 3), np.uint8)
        while True:
            read.append(len(read))
            yield Frame(image, read[-1])

    results = make_pipeline(detector=BoxDetector()).run(endless())
    for _ in range(5):
        next(results)
    results.close()  # type: ignore[attr-defined]
    # Five taken; each queue holds QUEUE_DEPTH and each thread one item in hand.
    assert len(read) <= 5 + 2 * (QUEUE_DEPTH + 1)


def test_reading_processing_and_the_caller_overlap() -> None:
    """Frame 2 is read while frame 1 is processed while the caller holds frame 0; in turns this would never end."""
    caller_has_first, second_in_work, third_is_read = threading.Event(), threading.Event(), threading.Event()

    def source() -> Iterator[Frame]:
        for frame in frames(3):
            if frame.index == 2:
                assert second_in_work.wait(PATIENCE_S)
                third_is_read.set()
            yield frame

    class Meeting(BoxDetector):
        def detect(self, frames: Sequence[Frame]) -> list[Detections]:
            if frames[0].index == 1:
                assert caller_has_first.wait(PATIENCE_S)
                second_in_work.set()
                assert third_is_read.wait(PATIENCE_S)
            return super().detect(frames)

    results = make_pipeline(detector=Meeting()).run(source())
    assert next(results)[0].index == 0
    caller_has_first.set()
    assert third_is_read.wait(PATIENCE_S)
    assert [frame.index for frame, _ in results] == [1, 2]


def test_a_closed_pipeline_refuses_frames() -> None:
    pipeline = make_pipeline(detector=BoxDetector())
    pipeline.process(frames(1)[0])
    pipeline.close()
    pipeline.close()
    with pytest.raises(StateError, match="closed and can process no more frames; build a new one"):
        pipeline.process(frames(1)[0])
    with pytest.raises(StateError):
        list(pipeline.run(frames(1)))


class BrightnessClassifier:
    """Calls every frame dark and is sure of its number."""

    class_names = ("dark",)

    def classify(self, frames: Sequence[Frame]) -> list[Classification]:
        return [
            Classification(np.array([0]), np.array([frame.index / 10], np.float32), ("dark",), assigned=1)
            for frame in frames
        ]


def test_a_classifier_stands_beside_the_other_stages() -> None:
    alone = Pipeline(classifier=BrightnessClassifier())
    assert alone.class_names == ("dark",)
    results = [result for _, result in alone.run(frames(3))]
    assert [float(result.classification.scores[0]) for result in results if result.classification] == pytest.approx(
        [0, 0.1, 0.2]
    )
    assert list(results[0].timings_ms) == ["classify"]
    both = Pipeline(detector=BoxDetector(), classifier=BrightnessClassifier())
    assert both.class_names == BoxDetector.class_names
    result = both.process(frames(1)[0])
    assert result.detections is not None
    assert result.classification is not None
