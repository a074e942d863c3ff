"""``stride32 tracks`` and the outputs of ``track`` that other tools read, as users run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vision.cli.main import main
from vision.io.tracks import read_track_file, read_tracks

Run = Callable[..., int]

DETECTIONS = "".join(f"{frame},-1,{10 + frame},20,30,60,0.9\n" for frame in range(1, 7))
ROWS = "1,3,10,20,30,60,0.5,1,1\n3,3,12,20,30,60,0.5,1,1\n3,5,90,20,30,60,0.5,2,1\n"


@pytest.fixture
def stride32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Return a function that runs a command line in ``tmp_path`` and returns its exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "det.txt").write_text(DETECTIONS)
    (tmp_path / "gt.txt").write_text(ROWS)

    def run(*args: object) -> int:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def test_track_writes_all_formats_alike(stride32: Run) -> None:
    outputs = (
        "--mot",
        "a.txt",
        "--csv",
        "a.csv",
        "--parquet",
        "a.parquet",
        "--coco-video",
        "a.json",
        "--jsonl",
        "a.jsonl",
    )
    assert stride32("track", "--detections", "det.txt", *outputs) == 0
    expected, header = read_track_file("a.parquet")
    assert (expected.frames.tolist(), expected.ids.tolist()) == ([2, 3, 4, 5], [1, 1, 1, 1])
    assert (header.frame_count, header.source) == (6, "det.txt")
    for name in outputs[1::2]:
        found = read_tracks(name)
        assert found.frames.tolist() == expected.frames.tolist()
        assert abs(found.boxes - expected.boxes).max() < 0.01
    assert list(Path().glob("*.part")) == []


def test_outputs_that_exist_are_refused_before_the_run(stride32: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.parquet").write_text("old")
    assert stride32("track", "--detections", "det.txt", "--parquet", "a.parquet") == 1
    assert "a.parquet exists already" in capsys.readouterr().err
    assert stride32("track", "--detections", "det.txt", "--parquet", "a.parquet", "--coco-video", "a.parquet") == 2
    assert Path("a.parquet").read_text() == "old"


def test_convert_through_every_format(
    stride32: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert stride32("tracks", "convert", "gt.txt", "b.parquet", "--fps", 25, "--class-names", "person, car") == 0
    assert capsys.readouterr().err == "b.parquet: 3 rows, 2 tracks\n"
    for source, target in (("b.parquet", "c.json"), ("c.json", "d.csv"), ("d.csv", "e.txt")):
        assert stride32("tracks", "convert", source, target) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "e.txt has no place for classes, which are left out; see docs/tracks.md"
    ]
    assert stride32("tracks", "convert", "d.csv", "f.mot", "--mot-layout", "gt") == 0
    assert Path("f.mot").read_text().splitlines()[2] == "3,5,90.00,20.00,30.00,60.00,1,2,1"
    header = read_track_file("d.csv")[1]
    assert (header.class_names, header.fps) == (("person", "car"), 25)


def test_show(stride32: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert stride32("tracks", "show", "gt.txt") == 0
    assert capsys.readouterr().out.splitlines() == [
        "tracks        2, 3 rows",
        "frames        2 with tracks, index 0 to 2",
        "length        median 1.5 rows, longest 2 (id 3)",
        "gaps          1, 1 frames, longest 1",
        "mean score    0.500",
        "classes       0 2, 1 1",
    ]
    assert stride32("tracks", "show", "gt.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes"] == {"0": 2, "1": 1}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["convert", "absent.csv", "b.txt"],
            1,
            "error: absent.csv must be a CSV file, failed to read it: No such file",
        ),
        (["convert", "det.txt", "b.csv"], 1, "error: det.txt line 1 must have a track id >= 0, got -1"),
        (["convert", "gt.txt", "b.tracks"], 1, "error: a file of tracks must end in"),
        (["convert", "gt.txt", "b.jsonl"], 1, "error: JSON lines are written by stride32 track alone"),
        (["convert", "gt.txt", "gt.txt"], 1, "error: the output gt.txt must be new, it exists already"),
        (["convert", "gt.txt", "gt.txt", "--overwrite"], 2, "error: the output gt.txt is the input itself"),
        (["convert", "gt.txt", "b.csv", "--mot-layout", "gt"], 1, "error: only a MOTChallenge file has a layout"),
        (["convert", "gt.txt", "b.csv", "--fps", "0"], 2, "error: --fps must be above 0"),
        (["convert", "gt.txt", "b.csv", "--video", "x"], 1, "error: only a COCO-video file holds several videos"),
        (["show", "gt.doc"], 1, "error: a file of tracks must end in"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line(
    stride32: Run, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert stride32("tracks", *words) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert sorted(path.name for path in Path().iterdir()) == ["det.txt", "gt.txt"]
