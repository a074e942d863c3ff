"""Many streams in one bank against the same streams each with a tracker of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.errors import ConfigError, InvalidInputError, LimitExceededError, StateError
from vision.tracking.bank import StreamInput, StreamOutcome, TrackerBank
from vision.tracking.bank_snapshot import load_bank, save_bank
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import TrackerConfig
from vision.tracking.stream import advance
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Frame, Tracks

KEYS = ("north", "south", "yard")
SIZE_HW = (96, 128)


def scene(seed: int, index: int) -> Frame:
    """Return a frame of blocks that drift to the right, another texture for each seed."""
    rng = np.random.default_rng(seed)
    picture = np.kron(rng.integers(0, 255, (24, 64, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return Frame(np.ascontiguousarray(picture[: SIZE_HW[0], 3 * index : 3 * index + SIZE_HW[1]]), index, index / 25)


def objects(seed: int, index: int, count: int = 4) -> Detections:
    """Return boxes that walk, some of which are missed now and then."""
    start = np.random.default_rng(seed).uniform((0, 0), (80, 50), (count, 2))
    rng = np.random.default_rng((seed, index))
    seen = rng.random(count) < 0.85
    walked = index * np.array([1.5, 0.5])
    low = (start + walked + rng.normal(0, 0.5, (count, 2)))[seen]
    boxes = np.concatenate([low, low + np.array([16, 40])], axis=1)
    return Detections(boxes.astype(np.float32), np.full(seen.sum(), 0.9), np.zeros(seen.sum(), np.int64))


class MeanColour:
    """Embeds a crop by its mean colour; counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, frames: Sequence[Frame], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.asked.append(len(frames))
        return [self.embed(frame, own) for frame, own in zip(frames, boxes, strict=True)]

    def embed(self, frame: Frame, boxes: np.ndarray) -> np.ndarray:
        crops = [frame.image[int(y1) : int(y1) + 20, int(max(x1, 0)) : int(x1) + 16] for x1, y1, _, _ in boxes]
        vectors = [np.r_[crop.reshape(-1, 3).mean(axis=0) if crop.size else np.zeros(3), 1.0] for crop in crops]
        return np.array(vectors, np.float32).reshape(-1, 4)


def inputs(index: int, keys: Sequence[str] = KEYS) -> dict[str, StreamInput]:
    return {key: StreamInput(objects(len(key), index), scene(len(key), index)) for key in keys}


def assert_equal(found: Tracks | None, expected: Tracks) -> None:
    assert found is not None
    for name in TRACK_FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


class Alone:
    """A stream with everything of its own."""

    def __init__(self, config: TrackerConfig) -> None:
        self.tracker = Tracker(config)
        self.camera = None if config.camera_motion == "none" else CameraMotion(config.camera_motion)

    def update(self, item: StreamInput) -> Tracks:
        frame, found = item.frame, item.detections
        assert frame is not None
        if self.tracker.config.appearance:
            found = found.with_embeddings(MeanColour().embed(frame, found.boxes))
        return advance(
            self.tracker,
            self.camera,
            found,
            frame.image,
            frame_index=frame.index,
            timestamp_s=frame.timestamp_s,
            timings_ms={},
        )


@pytest.mark.parametrize("camera_motion", ["none", "flow", "ecc"])
@pytest.mark.parametrize("appearance", [True, False])
def test_a_bank_equals_separate_trackers(camera_motion: Any, appearance: bool) -> None:
    config = TrackerConfig(camera_motion=camera_motion, appearance=appearance, n_init=2)
    embed, alone = MeanColour(), {key: Alone(config) for key in KEYS}
    bank = TrackerBank(config, embed=embed)
    confirmed = 0
    for index in range(12):
        # The yard is seen in every second frame only.
        items = inputs(index, KEYS if index % 2 == 0 else KEYS[:2])
        outcomes = bank.update(items)
        assert list(outcomes) == list(items)
        for key, item in items.items():
            expected = alone[key].update(item)
            assert_equal(outcomes[key].tracks, expected)
            confirmed += len(expected)
    assert confirmed > 30
    assert list(bank) == list(KEYS)
    assert embed.asked == ([3, 2] * 6 if appearance else [])
    assert set(outcomes["north"].timings_ms) == {
        "track",
        *(["embed"] if appearance else []),
        *(["camera"] if camera_motion != "none" else []),
    }


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.sampled_from(KEYS)), min_size=1, max_size=8))
def test_any_interleaving_equals_separate_trackers(rounds: list[set[str]]) -> None:
    config = TrackerConfig(n_init=1)
    bank, alone = TrackerBank(config, embed=MeanColour()), {key: Alone(config) for key in KEYS}
    for index, keys in enumerate(rounds):
        items = inputs(index, sorted(keys))
        for key, outcome in bank.update(items).items():
            assert_equal(outcome.tracks, alone[key].update(items[key]))


def test_an_error_concerns_its_stream_alone() -> None:
    config = TrackerConfig(n_init=1, camera_motion="flow", appearance=False)
    bank, alone = TrackerBank(config), {key: Alone(config) for key in KEYS}
    for index in range(6):
        items = inputs(index)
        if index == 3:
            # South stands still in time: refused, and its next frame follows as if this one had never been.
            items["south"] = StreamInput(objects(5, 9), scene(1, 2))
        outcomes = bank.update(items)
        for key in KEYS:
            if (index, key) == (3, "south"):
                assert outcomes[key].tracks is None
                assert isinstance(outcomes[key].error, InvalidInputError)
                assert len(outcomes[key].detections) == len(objects(5, 9))
            else:
                assert outcomes[key].error is None
                assert_equal(outcomes[key].tracks, alone[key].update(items[key]))


def test_a_stream_that_fails_at_its_beginning_is_not_opened() -> None:
    bank = TrackerBank()
    zero = Detections(np.array([[0, 0, 9, 9]]), np.array([0.9]), np.array([0]), np.zeros((1, 4)))
    outcomes = bank.update({"bad": StreamInput(zero), "good": StreamInput(objects(1, 0))})
    assert isinstance(outcomes["bad"].error, InvalidInputError)
    assert outcomes["good"].error is None
    assert list(bank) == ["good"]


def test_an_embedder_that_refuses_one_frame_fails_that_stream_alone() -> None:
    def embed(frames: Sequence[Frame], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        if any(frame.image.mean() == 0 for frame in frames):
            raise InvalidInputError("a black picture")
        return MeanColour()(frames, boxes)

    bank = TrackerBank(embed=embed)
    items = inputs(0)
    items["south"] = StreamInput(objects(1, 0), Frame(np.zeros((96, 128, 3), np.uint8), 0))
    outcomes = bank.update(items)
    assert [outcomes[key].error is None for key in KEYS] == [True, False, True]
    assert outcomes["north"].detections.embeddings is not None
    assert "north" in bank
    assert "south" not in bank


def test_a_bug_is_not_swallowed() -> None:
    def embed(frames: Sequence[Frame], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TrackerBank(embed=embed).update(inputs(0))


def test_the_number_of_streams_is_bounded() -> None:
    bank = TrackerBank(max_streams=2)
    outcomes = bank.update(inputs(0))
    assert [outcome.error is None for outcome in outcomes.values()] == [True, True, False]
    assert isinstance(outcomes["yard"].error, LimitExceededError)
    with pytest.raises(LimitExceededError, match="at most 2 streams, got 'yard' too; drop one"):
        bank.open("yard")
    bank.drop("north")
    assert bank.update(inputs(1, ["yard"]))["yard"].error is None
    assert list(bank) == ["south", "yard"]
    with pytest.raises(ConfigError, match="max_streams must be >= 1"):
        TrackerBank(max_streams=0)


def test_streams_have_settings_of_their_own() -> None:
    embed = MeanColour()
    bank = TrackerBank(TrackerConfig(n_init=3), embed=embed)
    bank.open("north", TrackerConfig(n_init=1, appearance=False, camera_motion="ecc"))
    outcomes = bank.update(inputs(0))
    assert outcomes["north"].tracks is not None
    assert len(outcomes["north"].tracks) > 0
    assert outcomes["north"].detections.embeddings is None
    assert embed.asked == [2]
    camera = bank.camera("north")
    assert camera is not None
    assert camera.method == "ecc"
    assert bank.camera("south") is None
    with pytest.raises(InvalidInputError, match="open already"):
        bank.open("north")


def test_unknown_streams_are_told() -> None:
    bank = TrackerBank()
    bank.open("north")
    for call in (bank.drop, bank.reset, bank.tracker, bank.camera):
        with pytest.raises(InvalidInputError, match=r"'nort' must be an open stream.*north"):
            call("nort")


def test_reset_forgets_the_tracks_of_one_stream() -> None:
    bank = TrackerBank(TrackerConfig(n_init=1, camera_motion="flow", appearance=False))
    for index in range(3):
        outcomes = bank.update(inputs(index))
    before = outcomes["south"].tracks
    assert before is not None
    bank.reset("north")
    # Time may begin anew in the stream that was reset, and only there.
    again = bank.update({**inputs(0, ["north"]), **inputs(3, ["south"])})
    assert again["north"].tracks is not None
    assert again["south"].tracks is not None
    assert again["north"].tracks.ids.min() > 3
    assert set(before.ids.tolist()) & set(again["south"].tracks.ids.tolist())


def test_streams_without_pictures() -> None:
    """Boxes with embeddings from elsewhere; a clock, but no frame. The camera then counts as still."""
    bank, tracker = TrackerBank(TrackerConfig(n_init=1, camera_motion="flow")), Tracker(TrackerConfig(n_init=1))
    for index in range(4):
        found = objects(1, index)
        found = found.with_embeddings(np.eye(8, dtype=np.float32)[: len(found)])
        outcome = bank.update({"a": StreamInput(found, frame_index=index, timestamp_s=index / 25)})["a"]
        assert_equal(outcome.tracks, tracker.update(found, frame_index=index, timestamp_s=index / 25))
    assert bank.update({"a": StreamInput(found, frame_index=1)})["a"].error is not None
    with pytest.raises(InvalidInputError, match="takes its time from the frame"):
        StreamInput(found, scene(1, 0), frame_index=3)


def test_a_missing_picture_moves_no_track_twice() -> None:
    bank = TrackerBank(TrackerConfig(camera_motion="flow", appearance=False))
    bank.update({"a": StreamInput(objects(1, 0), scene(1, 0))})
    bank.update({"a": StreamInput(objects(1, 1), frame_index=1)})
    camera = bank.camera("a")
    assert camera is not None
    np.testing.assert_array_equal(camera.estimate(scene(1, 2).image), np.eye(2, 3))


def test_no_streams_no_outcomes() -> None:
    assert TrackerBank(embed=MeanColour()).update({}) == {}


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_a_loaded_bank_goes_on_exactly(tmp_path: Path, stop: int) -> None:
    bank = TrackerBank(TrackerConfig(n_init=2, camera_motion="flow"), embed=MeanColour(), max_streams=7)
    bank.open("a/b c.mp4", TrackerConfig(n_init=1, max_age=4, camera_motion="ecc"))
    keys = ("a/b c.mp4", *KEYS[:2])
    for index in range(10):
        if index == stop:
            save_bank(bank, tmp_path / "bank.npz")
            resumed = load_bank(tmp_path / "bank.npz", embed=MeanColour())
            assert (list(resumed), resumed.config, resumed.max_streams) == (list(bank), bank.config, 7)
            assert resumed.tracker("a/b c.mp4").config.max_age == 4
        expected = bank.update(inputs(index, keys))
        if index >= stop:
            found = resumed.update(inputs(index, keys))
            for key in keys:
                assert_outcomes_equal(found[key], expected[key])
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"]


def assert_outcomes_equal(found: StreamOutcome, expected: StreamOutcome) -> None:
    assert expected.tracks is not None
    assert_equal(found.tracks, expected.tracks)


@pytest.mark.parametrize("content", [None, b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bank.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"save_bank, failed on bank\.npz"):
        load_bank(path)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    bank = TrackerBank(TrackerConfig(camera_motion="flow"))
    bank.update(inputs(0))
    save_bank(bank, tmp_path / "bank.npz")
    with np.load(tmp_path / "bank.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for name, value in (("0.camera.grey", None), ("1.tracker.mean", np.zeros((1, 3))), ("settings", np.array("{}"))):
        changed = {key: array for key, array in arrays.items() if key != name}
        if value is not None:
            changed[name] = value
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(InvalidInputError):
            load_bank(tmp_path / "changed.npz")
    other = str(arrays["settings"]).replace('"format": 1', '"format": 9')
    np.savez(tmp_path / "changed.npz", **(arrays | {"settings": np.array(other)}))
    with pytest.raises(InvalidInputError, match="of format 1, got 9"):
        load_bank(tmp_path / "changed.npz")


def test_errors_of_a_closed_embedder_are_told_for_each_stream() -> None:
    def closed(frames: Sequence[Frame], boxes: Sequence[np.ndarray]) -> list[np.ndarray]:
        raise StateError("closed")

    outcomes = TrackerBank(embed=closed).update(inputs(0))
    assert all(isinstance(outcome.error, StateError) for outcome in outcomes.values())
