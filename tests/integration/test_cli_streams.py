"""``track`` with several sources and with camera motion, in this process with a stand-in for the networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision.bank import PipelineBank
from vision.cli.main import main
from vision.config import PipelineConfig
from vision.pipeline import Pipeline
from vision.tracking.bank import TrackerBank
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.tracker import Tracker
from vision.types import Detections, Frame

Run = Callable[..., int]


class Walker:
    """Finds one object that walks to the right."""

    class_names = ("person",)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        boxes = [np.float32([[2 * frame.index, 5, 2 * frame.index + 20, 45]]) for frame in frames]
        return [Detections(box, np.float32([0.9]), np.int64([0])) for box in boxes]


def build_pipeline(config: PipelineConfig, *, detect: bool = True, segment: bool = False) -> Pipeline:
    assert not segment
    camera = None if config.tracking.camera_motion == "none" else CameraMotion(config.tracking.camera_motion)
    return Pipeline(detector=Walker() if detect else None, camera=camera, tracker=Tracker(config.tracking))


def build_bank(config: PipelineConfig, *, max_streams: int) -> PipelineBank:
    return PipelineBank(detector=Walker(), trackers=TrackerBank(config.tracking, max_streams=max_streams))


@pytest.fixture
def stride32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command line in ``tmp_path`` and returns its exit code."""
    stand_in = SimpleNamespace(
        build_pipeline=build_pipeline, build_bank=build_bank, resolve_config=lambda config: config
    )
    monkeypatch.setitem(sys.modules, "vision.build", stand_in)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Return two folders of the same name with 6 and 4 pictures."""
    made = []
    for parent, count in (("monday", 6), ("tuesday", 4)):
        folder = tmp_path / parent / "gate"
        folder.mkdir(parents=True)
        for index in range(count):
            Image.fromarray(np.full((48, 64, 3), 20 * index, np.uint8)).save(folder / f"{index:02d}.png")
        made.append(folder)
    return made


def read_tracks(path: Path) -> list[list[float]]:
    return [[float(value) for value in line.split(",")] for line in path.read_text().splitlines()]


def test_each_source_has_a_folder_and_the_result_of_a_run_of_its_own(
    stride32: Run, folders: list[Path], tmp_path: Path, capsys: Any
) -> None:
    assert stride32("track", *folders, "--out", "both") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "gate: 6 frames" in said.err
    assert "gate-2: 4 frames" in said.err
    assert "2 sources, 10 frames in" in said.err
    for name, folder, count in (("gate", folders[0], 6), ("gate-2", folders[1], 4)):
        assert stride32("track", folder, "--out", f"alone-{name}") == 0
        written = tmp_path / "both" / name
        assert {path.name for path in written.iterdir()} == {
            *("tracks.txt", "results.jsonl", "annotated.mp4", "config.toml")
        }
        alone = tmp_path / f"alone-{name}"
        assert read_tracks(written / "tracks.txt") == read_tracks(alone / "tracks.txt")
        assert (written / "config.toml").read_text() == (alone / "config.toml").read_text()
        rows = [json.loads(line) for line in (written / "results.jsonl").read_text().splitlines()]
        assert [row["frame_index"] for row in rows[1:]] == list(range(count))
        assert rows[0]["source"] == str(folder)


def test_max_frames_holds_for_each_source(stride32: Run, folders: list[Path], capsys: Any) -> None:
    assert stride32("track", *folders, "--out", "both", "--max-frames", 3) == 0
    said = capsys.readouterr().err
    assert "gate: 3 frames" in said
    assert "gate-2: 3 frames" in said


def test_a_damaged_picture_spoils_no_other_source(
    stride32: Run, folders: list[Path], tmp_path: Path, capsys: Any
) -> None:
    (folders[0] / "03.png").write_bytes(b"no picture")
    assert stride32("track", *folders, "--out", "both") == 3
    said = capsys.readouterr().err
    assert "gate: 5 frames" in said
    assert "gate-2: 4 frames" in said
    assert "error: 1 inputs or frames failed" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "need --out DIR"),
        (("--out", "o", "--mot", "t.txt"), "--out alone"),
        (("--out", "o", "--jsonl", "-"), "--out alone"),
        (("--out", "o", "--save-video", "v.mp4"), "--out alone"),
        (("--out", "o", "--offline"), "--out alone"),
        (("--out", "o", "--detections", "det.txt"), "--out alone"),
    ],
)
def test_options_of_one_source_are_refused(
    stride32: Run, folders: list[Path], tmp_path: Path, capsys: Any, options: tuple[str, ...], words: str
) -> None:
    assert stride32("track", *folders, *options) == 2
    # The message is wrapped to the terminal's width.
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "o").exists()


def test_what_exists_is_kept_and_a_missing_source_stops_all(
    stride32: Run, folders: list[Path], tmp_path: Path, capsys: Any
) -> None:
    assert stride32("track", *folders, "absent.mp4", "--out", "both") == 1
    assert "absent.mp4" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
    assert stride32("track", *folders, "--out", "both") == 0
    assert stride32("track", *folders, "--out", "both") == 1
    assert "exists already" in capsys.readouterr().err
    assert stride32("track", *folders, "--out", "both", "--overwrite") == 0


@pytest.mark.parametrize("tracker", ["botsort", "strongsort"])
def test_camera_motion_without_pictures_is_said_once(stride32: Run, tmp_path: Path, capsys: Any, tracker: str) -> None:
    rows = [f"{frame},-1,{10 + 2 * frame},20,30,60,0.9" for frame in range(1, 6)]
    (tmp_path / "det.txt").write_text("\n".join(rows) + "\n")
    assert stride32("track", "--detections", "det.txt", "--mot", "a.txt", "--tracker", tracker) == 0
    assert capsys.readouterr().err.count("needs pictures, --detections holds none") == 1
    options = ("--tracker", tracker, "--set", "tracking.camera_motion=none")
    assert stride32("track", "--detections", "det.txt", "--mot", "b.txt", *options) == 0
    assert "needs pictures" not in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()
    assert (tmp_path / "a.txt").read_text()


def test_camera_motion_with_pictures_is_timed_and_its_failures_are_said(
    stride32: Run, folders: list[Path], tmp_path: Path, capsys: Any
) -> None:
    """Grey pictures have no corners to follow."""
    flow = ("--set", "tracking.camera_motion=flow")
    assert stride32("track", folders[0], "--jsonl", "a.jsonl", *flow) == 0
    assert "camera motion: taken for still in 5 of 6 frames (few points 5)" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert list(rows[1]["timings_ms"]) == ["detect", "camera", "track"]
    assert stride32("track", *folders, "--out", "both", *flow) == 0
    assert "gate-2: camera motion: taken for still in 3 of 4 frames (few points 3)" in capsys.readouterr().err
