"""What load_tracker does with files that save_tracker did not write, or that were damaged since."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision.errors import InvalidInputError, VisionError
from vision.tracking.config import PRESETS
from vision.tracking.snapshot import load_tracker, save_tracker
from vision.tracking.tracker import Tracker
from vision.types import Detections

BOXES = np.array([[100.0, 100, 140, 200], [300, 100, 350, 220]])


def running(preset: str) -> Tracker:
    """Return a tracker with two confirmed tracks, and galleries where the preset has any."""
    tracker = Tracker(PRESETS[preset])
    for step in range(5):
        looks = np.eye(2, 4, dtype=np.float32)
        tracker.update(Detections(BOXES + step, np.full(2, 0.9), np.zeros(2, int), looks), frame_index=step)
    return tracker


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


class Trap:
    """Runs when it is unpickled, as a hostile file would."""

    opened = False

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return setattr, (Trap, "opened", True)


def trap() -> np.ndarray:
    return np.array([Trap()], dtype=object)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("member", ["ids", "settings", "mean", "extra"])
def test_pickled_content_is_refused_and_never_run(tmp_path: Path, member: str) -> None:
    save_tracker(running("deepsort"), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = {name: file[name] for name in file.files}
    (tmp_path / "bad.npz").write_bytes(archive(**arrays | {member: trap()}))
    with pytest.raises(InvalidInputError, match="save_tracker"):
        load_tracker(tmp_path / "bad.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InvalidInputError, match="save_tracker"):
        load_tracker(tmp_path / "bare.npz")
    assert Trap.opened is False


@pytest.mark.parametrize(
    "settings",
    [
        None,
        3.5,
        "no json",
        "[]",
        "{}",
        json.dumps({"format": 1}),
        json.dumps({"format": 1, "config": []}),
        json.dumps({"format": 1, "config": {"unknown": 1}}),
        json.dumps({"format": 1, "config": {"max_age": -5}}),
        json.dumps({"format": 99, "config": {}}),
    ],
)
def test_files_of_other_programs_are_refused(tmp_path: Path, settings: Any) -> None:
    arrays: dict[str, Any] = {"ids": np.zeros(0, np.int64)}
    if settings is not None:
        arrays["settings"] = np.array(settings)
    (tmp_path / "foreign.npz").write_bytes(archive(**arrays))
    with pytest.raises(VisionError):
        load_tracker(tmp_path / "foreign.npz")


def test_a_file_torn_anywhere_is_refused(tmp_path: Path) -> None:
    save_tracker(running("deepsort"), tmp_path / "good.npz")
    content = (tmp_path / "good.npz").read_bytes()
    for cut in range(0, len(content), max(1, len(content) // 100)):
        (tmp_path / "torn.npz").write_bytes(content[:cut])
        with pytest.raises(InvalidInputError):
            load_tracker(tmp_path / "torn.npz")


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_missing_or_misshapen_array_is_refused(tmp_path: Path, preset: str) -> None:
    save_tracker(running(preset), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for name in arrays:
        for change in ("missing", "reshaped", "retyped"):
            damaged = dict(arrays)
            if change == "missing":
                del damaged[name]
            else:
                damaged[name] = arrays[name][None] if change == "reshaped" else arrays[name].astype("<U40")
            # Without its gallery a tracker has simply seen no embeddings; the text of the settings is text already.
            if (name, change) in {("gallery", "missing"), ("settings", "retyped"), ("settings", "reshaped")}:
                continue
            (tmp_path / "bad.npz").write_bytes(archive(**damaged))
            with pytest.raises(VisionError):
                load_tracker(tmp_path / "bad.npz")


def test_a_byte_changed_anywhere_is_refused_or_harmless(tmp_path: Path) -> None:
    tracker = running("deepsort")
    save_tracker(tracker, tmp_path / "good.npz")
    content, expected = (tmp_path / "good.npz").read_bytes(), tracker.to_arrays()
    bad = tmp_path / "bad.npz"
    for place in range(0, len(content), 7):
        bad.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        # A byte in the archive's own book-keeping may not matter; one in the data must never pass.
        try:
            loaded = load_tracker(bad).to_arrays()
        except VisionError:
            continue
        assert set(loaded) == set(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(loaded[name], values, err_msg=name)
