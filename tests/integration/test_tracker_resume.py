"""A tracker saved by one process goes on in another exactly as it would have in the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from vision.tracking.config import PRESETS
from vision.tracking.snapshot import save_tracker
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Tracks

FRAMES, STOP = 24, 10

# All presets in one process: starting Python is what takes the time.
OTHER_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from vision.tracking.snapshot import load_tracker
from vision.types import TRACK_FIELDS, Detections

folder, stop = Path(sys.argv[1]), int(sys.argv[2])
with np.load(folder / "frames.npz") as file:
    frames = {name: file[name] for name in file.files}
results = {}
for state in sorted(folder.glob("state-*.npz")):
    tracker = load_tracker(state)
    for index in range(stop, len(frames) // 4):
        columns = [frames[f"{name}{index}"] for name in ("boxes", "scores", "labels", "embeddings")]
        tracks = tracker.update(Detections(*columns), frame_index=2 * index, timestamp_s=index / 12.5)
        results |= {f"{state.stem}/{index}/{name}": getattr(tracks, name) for name in TRACK_FIELDS}
np.savez(folder / "results.npz", **results)
"""


def crowd() -> list[Detections]:
    """Return people who walk, hide and look much like each other."""
    rng = np.random.default_rng(11)
    centre, velocity = rng.uniform(0, 400, (9, 2)), rng.normal(0, 5, (9, 2))
    looks = rng.standard_normal((9, 6)) + 1
    frames = []
    for _ in range(FRAMES):
        centre = centre + velocity
        seen = np.flatnonzero(rng.random(9) < 0.8)
        half = rng.normal([20, 45], 1, (len(seen), 2))
        vectors = looks[seen] + 0.2 * rng.standard_normal((len(seen), 6))
        boxes = np.concatenate([centre[seen] - half, centre[seen] + half], axis=1)
        frames.append(
            Detections(boxes, rng.uniform(0.1, 1, len(seen)), np.zeros(len(seen), int), vectors.astype(np.float32))
        )
    return frames


def update(tracker: Tracker, frames: list[Detections], index: int) -> Tracks:
    return tracker.update(frames[index], frame_index=2 * index, timestamp_s=index / 12.5)


def test_the_second_half_in_another_process_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    frames = crowd()
    columns = ("boxes", "scores", "labels", "embeddings")
    np.savez(
        tmp_path / "frames.npz",
        **{f"{name}{index}": getattr(frame, name) for index, frame in enumerate(frames) for name in columns},
    )
    expected: dict[str, np.ndarray] = {}
    for preset, config in PRESETS.items():
        tracker = Tracker(config)
        for index in range(STOP):
            update(tracker, frames, index)
        save_tracker(tracker, tmp_path / f"state-{preset}.npz")
        for index in range(STOP, FRAMES):
            tracks = update(tracker, frames, index)
            expected |= {f"state-{preset}/{index}/{name}": getattr(tracks, name) for name in TRACK_FIELDS}
    subprocess.run([sys.executable, "-c", OTHER_PROCESS, str(tmp_path), str(STOP)], check=True, timeout=120)
    with np.load(tmp_path / "results.npz") as file:
        assert set(file.files) == set(expected)
        for name, values in expected.items():
            assert file[name].dtype == values.dtype
            np.testing.assert_array_equal(file[name], values, err_msg=name)
