"""Counting and drawing from the command line: live with a stand-in for the networks, and from files of tracks."""

from __future__ import annotations

import csv
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

LINE = {"lines": [{"name": "door", "from": [40, 60], "to": [40, 0], "classes": ["person"]}]}
ZONE = {"units": "relative", "zones": [{"name": "hall", "polygon": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}]}


class StandInPipeline:
    """Finds one person that walks to the right, 4 pixels a frame; the tracker is real."""

    class_names = object_names = ("person",)
    map_names = ()

    def __init__(self, config: PipelineConfig, **options: Any) -> None:
        self.tracker = Tracker(config.tracking)

    def process(self, frame: Frame) -> FrameResult:
        box = np.float32([[4 * frame.index, 5, 4 * frame.index + 16, 45]])
        found = Detections(box, np.float32([0.9]), np.int64([0]))
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
    (tmp_path / "line.json").write_text(json.dumps(LINE))
    (tmp_path / "zone.json").write_text(json.dumps(ZONE))
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(20):
        Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(frames / f"{index:03}.png")

    def run(*args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main(list(map(str, args)))
        return int(caught.value.code or 0)

    return run


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_run_counts_into_its_folder_and_prints_the_totals(
    stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stride32("track", "frames", "--count", "line.json", "--out", "out", "--heatmap", "heat.png") == 0
    assert capsys.readouterr().out == "door: in 0, out 1\n"
    rows = list(csv.DictReader((tmp_path / "out/events.csv").read_text().splitlines()))
    assert [(row["kind"], row["direction"], row["class_name"]) for row in rows] == [("cross", "out", "person")]
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert (counts["frames"], counts["source"], counts["lines"]["door"]["out"]) == (20, "frames", 1)
    assert size_of(tmp_path / "heat.png") == (80, 60)
    with av.open(str(tmp_path / "out/annotated.mp4")) as video:
        picture = next(video.decode(video=0)).to_ndarray(format="rgb24")
    # The first frame has no track yet, and shows the line.
    assert np.abs(picture[50, 36:45].astype(int) - 90).max() > 60


def test_counts_alone_are_a_result_and_leave_stdout_to_json_lines(
    stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stride32("track", "frames", "--count", "zone.json") == 0
    assert capsys.readouterr().out.startswith("hall: entries 1, exits 0, inside at the end 1, most at once 1, dwell ")
    assert stride32("track", "frames", "--count", "zone.json", "--jsonl", "-") == 0
    captured = capsys.readouterr()
    assert all(json.loads(row) for row in captured.out.splitlines())
    assert "hall: entries 1" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "line.json", "zone.json"]


def test_finished_tracks_count_the_same(stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stride32("track", "frames", "--count", "zone.json", "--csv", "tracks.csv", "--events", "live.csv")
    capsys.readouterr()
    done = ("tracks", "count", "tracks.csv", "--count", "zone.json")
    assert stride32(*done, "--size", "80x60", "--events", "later.csv", "--counts", "counts.json") == 0
    assert "hall: entries 1" in capsys.readouterr().out
    assert (tmp_path / "later.csv").read_text() == (tmp_path / "live.csv").read_text()
    assert json.loads((tmp_path / "counts.json").read_text())["zones"]["hall"]["entries"] == 1
    assert stride32(*done) == 2
    assert "--size 1920x1080" in capsys.readouterr().err
    assert stride32(*done, "--size", "80x60", "--events", "later.csv") == 1


def test_mot_rows_have_numbers_for_classes_or_names_by_option(
    stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{frame + 1},7,{20 + 4 * frame},10,16,40,0.9,-1,-1,-1" for frame in range(10)]
    (tmp_path / "tracks.txt").write_text("\n".join(rows))
    assert stride32("tracks", "count", "tracks.txt", "--count", "line.json") == 2
    assert "numbers alone" in capsys.readouterr().err
    named = ("tracks", "count", "tracks.txt", "--count", "line.json", "--class-names", "person")
    assert stride32(*named, "--fps", "25") == 0
    assert capsys.readouterr().out == "door: in 0, out 1\n"


def test_finished_tracks_are_drawn(stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{frame + 1},7,{20 + 4 * frame},10,16,40,0.9,-1,-1,-1" for frame in range(10)]
    (tmp_path / "tracks.txt").write_text("\n".join(rows))
    plot = ("tracks", "plot", "tracks.txt")
    assert stride32(*plot, "--heatmap", "heat.png", "--trajectories", "paths.png") == 0
    assert size_of(tmp_path / "heat.png") == (72, 50)
    assert stride32(*plot, "--trajectories", "paths.png") == 1
    more = ("--background", "frames/000.png", "--trajectories", "paths.png", "--overwrite")
    assert stride32(*plot, *more) == 0
    assert size_of(tmp_path / "paths.png") == (80, 60)
    assert stride32(*plot, *more, "--size", "81x60") == 1
    assert "81x60, got 80x60" in capsys.readouterr().err
    assert stride32(*plot, *more, "--size", "large") == 2
    assert stride32(*plot) == 2
    (tmp_path / "none.txt").write_text("")
    assert stride32("tracks", "plot", "none.txt", "--heatmap", "none.png") == 1
    assert "give --size" in capsys.readouterr().err
    assert stride32("tracks", "plot", "none.txt", "--heatmap", "none.png", "--size", "20x10") == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--events", "events.csv"], 2, "need --count"),
        (["--count", "absent.json"], 2, "absent.json must be a JSON file"),
        (["--count", "line.json", "--events", "events.xls"], 1, ".csv or .parquet"),
        (["--heatmap", "heat.jpg"], 1, "must end in .png"),
        (["--count", "line.json", "--events", "a.csv", "--csv", "a.csv"], 2, "a file of its own"),
        (["--count", "line.json", "--events", "line.json.csv", "--set", "tracking.max_age=5"], 0, "20 frames"),
    ],
)
def test_options_are_checked_before_a_model_loads(
    options: list[str], code: int, words: str, stride32: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stride32("track", "frames", *options) == code
    assert words in capsys.readouterr().err


def test_a_line_of_another_frame_size_is_told(
    stride32: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "far.json").write_text(json.dumps({"lines": [{"name": "far", "from": [500, 0], "to": [500, 9]}]}))
    assert stride32("track", "frames", "--count", "far.json") == 2
    assert "line 'far' must touch the frame of 80x60" in capsys.readouterr().err
