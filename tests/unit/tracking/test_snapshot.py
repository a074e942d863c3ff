from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vision.errors import InvalidInputError
from vision.tracking.config import TrackerConfig
from vision.tracking.snapshot import load_tracker, save_tracker
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections


def frames(count: int, width: int | None) -> list[Detections]:
    rng = np.random.default_rng(5)
    centre, looks = rng.uniform(0, 600, (12, 2)), rng.standard_normal((12, width or 1))
    result = []
    for _ in range(count):
        centre = centre + rng.normal(1, 2, centre.shape)
        seen = np.flatnonzero(rng.random(12) < 0.8)
        result.append(
            Detections(
                np.concatenate([centre[seen] - [20, 50], centre[seen] + [20, 50]], axis=1),
                np.full(len(seen), 0.9),
                np.zeros(len(seen), np.int64),
                (looks[seen] + 0.1 * rng.standard_normal((len(seen), width))).astype(np.float32) if width else None,
            )
        )
    return result


@pytest.mark.parametrize("width", [None, 16])
@pytest.mark.parametrize("stop", [0, 1, 15])
def test_a_loaded_tracker_goes_on_exactly(tmp_path: Path, width: int | None, stop: int) -> None:
    tracker = Tracker(TrackerConfig(gallery_size=6, max_age=4))
    for index, frame in enumerate(frames(30, width)):
        if index == stop:
            save_tracker(tracker, tmp_path / "state.npz")
            resumed = load_tracker(tmp_path / "state.npz")
            assert resumed.config == tracker.config
        expected = tracker.update(frame, frame_index=index, timestamp_s=index / 25)
        if index >= stop:
            found = resumed.update(frame, frame_index=index, timestamp_s=index / 25)
            for name in TRACK_FIELDS:
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    with pytest.raises(InvalidInputError, match="must be above"):
        resumed.update(frame, frame_index=29)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"save_tracker"):
        load_tracker(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"absent\.npz"):
        load_tracker(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", np.zeros((3, 7))),
        ("ids", np.zeros(2)),
        ("scores", None),
        ("clock", np.array([1.0, 0, 0])),
        ("gallery", np.zeros((1, 1), np.float32)),
        ("written", np.full(12, 99)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: np.ndarray | None) -> None:
    tracker = Tracker()
    tracker.update(frames(1, 4)[0])
    arrays = tracker.to_arrays()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(InvalidInputError, match="tracker state needs"):
        Tracker.from_arrays(TrackerConfig(), arrays)
