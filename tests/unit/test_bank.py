"""Many streams through one detector and one embedder, with stand-in networks, against pipelines of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from vision.bank import PipelineBank, StreamResult
from vision.errors import ConfigError, InvalidInputError, MediaError, StateError
from vision.pipeline import Pipeline
from vision.tracking.bank import TrackerBank
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Frame, FrameResult

CONFIG = TrackerConfig(n_init=1, camera_motion="flow")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread for thread in threading.enumerate() if thread.name == "stride32-prefetch"] == []


def frames(seed: int, count: int, size_hw: tuple[int, int] = (64, 96)) -> list[Frame]:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (size_hw[0] // 8, size_hw[1] // 8 + 10, 3))
    picture = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    return [
        Frame(np.ascontiguousarray(picture[:, 2 * i : 2 * i + size_hw[1]]), i, i / 10, f"stream {seed}")
        for i in range(count)
    ]


class BrightBlocks:
    """Finds the brightest 8 x 16 windows; fails at a black frame."""

    class_names = ("block",)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        self.batches.append(len(frames))
        if any(frame.image.max() == 0 for frame in frames):
            raise InvalidInputError("a black frame")
        return [self._find(frame.image) for frame in frames]

    def _find(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        cells = image[: height // 8 * 8, : width // 16 * 16].reshape(height // 8, 8, width // 16, 16, 3).mean((1, 3, 4))
        rows, columns = np.nonzero(cells > 170)
        low = np.stack([16 * columns, 8 * rows], axis=1).astype(np.float32)
        boxes = np.concatenate([low, low + np.float32([16, 8])], axis=1)
        return Detections(boxes, np.full(len(boxes), 0.9), np.zeros(len(boxes), np.int64))


class CornerColour:
    """Embeds a box by the colour of its first pixel."""

    def embed(self, frame: Frame, boxes: np.ndarray) -> np.ndarray:
        places = boxes[:, :2].astype(int)
        return np.c_[frame.image[places[:, 1], places[:, 0]], np.ones(len(boxes))].astype(np.float32)

    def embed_frames(self, frames: Sequence[Frame], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.embed(frame, own) for frame, own in zip(frames, boxes, strict=True)]


def make_bank(detect_batch: int = 8) -> PipelineBank:
    trackers = TrackerBank(CONFIG, embed=CornerColour().embed_frames)
    return PipelineBank(detector=BrightBlocks(), trackers=trackers, detect_batch=detect_batch)


def make_pipeline() -> Pipeline:
    stages = {"detector": BrightBlocks(), "embedder": CornerColour(), "camera": CameraMotion("flow")}
    return Pipeline(**stages, tracker=Tracker(CONFIG))  # type: ignore[arg-type]


def assert_equal(found: FrameResult | None, expected: FrameResult) -> None:
    assert found is not None
    assert found.tracks is not None
    assert expected.tracks is not None
    for name in ("frame_index", "timestamp_s", "source", "size_hw"):
        assert getattr(found, name) == getattr(expected, name)
    assert list(found.timings_ms) == list(expected.timings_ms)
    assert found.detections is not None
    assert expected.detections is not None
    np.testing.assert_array_equal(found.detections.boxes, expected.detections.boxes)
    np.testing.assert_array_equal(found.detections.embeddings, expected.detections.embeddings)  # type: ignore[arg-type]
    for name in TRACK_FIELDS:
        np.testing.assert_array_equal(getattr(found.tracks, name), getattr(expected.tracks, name))


STREAMS = {"a": frames(1, 9), "b": frames(2, 5, (80, 64)), "c": frames(3, 7)}


@pytest.mark.parametrize("detect_batch", [1, 2, 8])
def test_run_equals_separate_pipelines(detect_batch: int) -> None:
    bank, alone = make_bank(detect_batch), {key: make_pipeline() for key in STREAMS}
    assert bank.class_names == ("block",)
    seen: dict[str, int] = dict.fromkeys(STREAMS, 0)
    tracked = 0
    for key, outcome in bank.run(STREAMS):
        frame = STREAMS[key][seen[key]]
        assert outcome.frame is frame
        assert outcome.error is None
        expected = alone[key].process(frame)
        assert_equal(outcome.result, expected)
        assert expected.tracks is not None
        tracked += len(expected.tracks)
        seen[key] += 1
    assert seen == {key: len(own) for key, own in STREAMS.items()}
    assert tracked > 40
    assert isinstance(bank.detector, BrightBlocks)
    assert max(bank.detector.batches) == min(detect_batch, 3)


def test_given_detections_take_the_detectors_place() -> None:
    bank = make_bank()
    given = Detections(np.array([[3, 4, 20, 40]]), np.array([0.8]), np.array([0]))
    results = bank.process({key: own[0] for key, own in STREAMS.items()}, {"b": given})
    assert results["b"].result is not None
    assert results["b"].result.detections is not None
    assert results["b"].result.detections.boxes.tolist() == [[3, 4, 20, 40]]
    assert "detect" not in results["b"].result.timings_ms
    assert isinstance(bank.detector, BrightBlocks)
    assert bank.detector.batches == [2]


def test_without_a_detector_nothing_is_found() -> None:
    result = PipelineBank(trackers=TrackerBank()).process({"a": frames(1, 1)[0]})["a"].result
    assert result is not None
    assert result.detections is None
    assert result.tracks is not None
    assert len(result.tracks) == 0


def test_errors_concern_their_stream_alone() -> None:
    bank, alone = make_bank(), make_pipeline()
    black = Frame(np.zeros((64, 96, 3), np.uint8), 1)
    for index, frame in enumerate(frames(1, 4)):
        other = {1: black, 2: frames(2, 1)[0]}.get(index, frames(2, 4)[index])
        results = bank.process({"bad": other, "good": frame})
        assert_equal(results["good"].result, alone.process(frame))
        assert (results["bad"].error is not None) == (index in (1, 2))
        assert (results["bad"].result is None) == (index in (1, 2))
        assert results["bad"].frame is other


def test_a_source_that_fails_ends_alone() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(2, 2)
        raise MediaError("the file ends here")

    outcomes: dict[str, list[StreamResult]] = {"a": [], "b": []}
    for key, outcome in make_bank().run({"a": frames(1, 5), "b": broken()}):
        outcomes[key].append(outcome)
    assert [outcome.error is None for outcome in outcomes["a"]] == [True] * 5
    assert [outcome.error is None for outcome in outcomes["b"]] == [True, True, False]
    assert isinstance(outcomes["b"][-1].error, MediaError)
    assert outcomes["b"][-1].frame is None


def test_a_bug_of_a_source_is_raised() -> None:
    def broken() -> Iterator[Frame]:
        yield from frames(2, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(make_bank().run({"a": frames(1, 5), "b": broken()}))


def test_stopping_early_ends_the_threads() -> None:
    def endless() -> Iterator[Frame]:
        index = 0
        while True:
            yield Frame(frames(1, 1)[0].image, index)
            index += 1

    results = make_bank().run({"a": endless(), "b": endless()})
    assert [next(results)[0] for _ in range(4)] == ["a", "b", "a", "b"]
    results.close()


def test_no_sources() -> None:
    assert list(make_bank().run({})) == []
    assert list(make_bank().run({"a": []})) == []


def test_a_closed_bank_refuses_frames() -> None:
    bank = make_bank()
    bank.close()
    with pytest.raises(StateError, match="closed"):
        bank.process({"a": frames(1, 1)[0]})
    with pytest.raises(ConfigError, match="detect_batch must be >= 1"):
        make_bank(0)
