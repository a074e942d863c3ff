"""``track --offline`` and ``tracks smooth`` from the command line, with a stand-in for the networks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from vision.cli.main import main
from vision.config import PipelineConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections, Frame, FrameResult

Run = Callable[..., int]

FRAMES, HIDDEN = 16, (7, 8, 9)


class StandInPipeline:
    """Finds one person that walks to the right and is hidden for three frames; the tracker is real."""

    class_names = object_names = ("person",)
    map_names = ()

    def __init__(self, config: PipelineConfig, **options: Any) -> None:
        self.tracker = Tracker(config.tracking)

    def process(self, frame: Frame) -> FrameResult:
        box = np.float32([[2 * frame.index, 5, 2 * frame.index + 16, 45]])
        found = Detections(box, np.float32([0.9]), np.int64([0])) if frame.index not in HIDDEN else Detections.empty()
        tracks = self.tracker.update(found, frame_index=frame.index, timestamp_s=frame.timestamp_s)
        return FrameResult(frame.index, frame.timestamp_s, frame.source, frame.size_hw, found, tracks)

    def run(self, source: Iterable[Frame]) -> Iterator[tuple[Frame, FrameResult]]:
        for frame in source:
            yield frame, self.process(frame)

    def close(self) -> None: ...


@pytest.fixture
def stride32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command line in ``tmp_path`` and returns its exit code."""
    stand_in = SimpleNamespace(build_pipeline=StandInPipeline, resolve_config=lambda config: config)
    monkeypatch.setitem(sys.modules, "vision.build", stand_in)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    for index in range(FRAMES):
        Image.new("RGB", (64, 64), (index, 90, 90)).save(tmp_path / "frames" / f"{index:03}.png")

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as done:
            main(words)
        return int(str(done.value.code))

    return run


def frames_of(path: str) -> list[int]:
    return [int(line.split(",")[0]) for line in Path(path).read_text().splitlines()]


def test_offline_fills_what_online_leaves_out(stride32: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert stride32("track", "frames", "--mot", "online.txt") == 0
    assert stride32("track", "frames", "--offline", "--out", "out", "--csv", "out/tracks.csv") == 0
    assert "offline: 1 tracks became 1" in capsys.readouterr().err
    online, offline = frames_of("online.txt"), frames_of("out/tracks.txt")
    assert set(offline) - set(online) == {frame + 1 for frame in HIDDEN}
    with av.open("out/annotated.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    header, *rows = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert header["config"]["offline"]["gaps"] == "linear"
    assert len(rows) == FRAMES
    assert [row["tracks"]["detection_index"] for row in rows[6:11]] == [[0], [-1], [-1], [-1], [0]]
    assert "[offline]" in Path("out/config.toml").read_text()


def test_settings_and_max_frames_hold_offline_too(stride32: Run) -> None:
    words = ("track", "frames", "--offline", "--max-frames", "12", "--save-video", "short.mp4", "--mot", "short.txt")
    assert stride32(*words, "--set", "offline.gaps=none") == 0
    assert frames_of("short.txt") == [*range(3, 8), 11, 12]
    with av.open("short.mp4") as video:
        assert sum(1 for _ in video.decode(video=0)) == 12


def test_detections_alone_can_be_refined(stride32: Run) -> None:
    rows = [f"{n},-1,{2 * n},5,16,40,0.9" for n in range(1, 15) if n not in HIDDEN]
    Path("det.txt").write_text("\n".join(rows))
    assert stride32("track", "--detections", "det.txt", "--offline", "--mot", "made.txt") == 0
    assert frames_of("made.txt") == list(range(3, 15))


@pytest.mark.parametrize(
    ("source", "what"), [("-", "standard input"), ("rtsp://camera.example/1", "an address"), ("0", "a camera")]
)
def test_live_sources_are_refused(stride32: Run, capsys: pytest.CaptureFixture[str], source: str, what: str) -> None:
    assert stride32("track", source, "--offline", "--mot", "made.txt") == 2
    error = capsys.readouterr().err
    assert f"got {what}; record it to a file first" in error
    assert not Path("made.txt").exists()


def test_a_file_is_smoothed(stride32: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{n},4,{10 * n},5,16,40,0.9,-1,-1,-1" for n in (1, 2, 3, 4, 8, 9)]
    Path("tracks.txt").write_text("\n".join([*rows, "3,9,300,5,16,40,0.9,-1,-1,-1"]) + "\n")
    assert stride32("tracks", "smooth", "tracks.txt", "--out", "made.txt", "--no-rts") == 0
    assert "7 rows of 2 tracks became 9 rows (3 filled) of 1 tracks" in capsys.readouterr().err
    boxes = {int(line.split(",")[0]): float(line.split(",")[2]) for line in Path("made.txt").read_text().splitlines()}
    assert boxes == {n: 10.0 * n for n in range(1, 10)}


def test_every_option_reaches_the_settings(stride32: Run) -> None:
    rows = [f"{n},4,{10 * n},5,16,40,0.9,-1,-1,-1" for n in (1, 2, 3, 6, 7)]
    rows += [f"{n},5,{10 * n},5,16,40,0.2,-1,-1,-1" for n in (9, 10, 11)]
    Path("tracks.txt").write_text("\n".join(rows) + "\n")
    smooth = ("tracks", "smooth", "tracks.txt", "--overwrite", "--out", "made.txt")
    assert stride32(*smooth, "--gaps", "none", "--min-length", "0") == 0
    assert len(frames_of("made.txt")) == 8
    assert stride32(*smooth, "--max-gap", "1", "--gaps", "gaussian", "--min-length", "0", "--min-score", "0.5") == 0
    assert frames_of("made.txt") == [1, 2, 3, 6, 7]
    assert (
        stride32(
            *smooth,
            "--link",
            "--min-length",
            "3",
            "--set",
            "offline.link_gate=100",
            "--set",
            "offline.link_max_distance=9",
        )
        == 0
    )
    assert frames_of("made.txt") == list(range(1, 12))
    Path("offline.toml").write_text("[offline]\nmin_length = 4\ngaps = 'rts'\n")
    assert stride32(*smooth, "--config", "offline.toml") == 0
    assert frames_of("made.txt") == list(range(1, 8))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--out", "tracks.txt", "--overwrite"], 2, "is the input itself"),
        (["--out", "taken.txt"], 1, "exists already"),
        (["--out", "made.txt", "--set", "offline.max_gap=-1"], 2, "offline.max_gap must be >= 0"),
        (["--out", "made.txt", "--set", "offline.gasp=none"], 2, "did you mean"),
    ],
)
def test_wrong_uses_are_told(
    stride32: Run, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    Path("tracks.txt").write_text("1,1,0,0,10,20,0.9,-1,-1,-1\n")
    Path("taken.txt").write_text("")
    assert stride32("tracks", "smooth", "tracks.txt", *words) == code
    assert message in capsys.readouterr().err
