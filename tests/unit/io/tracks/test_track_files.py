"""Which format a file has, JSON lines, headers, and the summary of tracks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from io_results import TENTATIVE, make_detections, make_result, make_tracks
from track_rows import HEADER, ROWS, make_trajectories

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks, write_tracks
from vision.io.tracks.files import lost_columns
from vision.io.tracks.summary import summarize
from vision.io.writers.jsonl import JsonlWriter

WRITABLE = ["a.txt", "a.MOT", "a.csv", "a.parquet", "a.json"]


@pytest.mark.parametrize("name", WRITABLE)
def test_existing_files_are_refused_unless_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_tracks(make_trajectories(), path)
    assert path.read_text() == "old"
    write_tracks(make_trajectories(), path, overwrite=True)
    assert len(read_tracks(path)) == len(ROWS)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITABLE)
def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    tracks = make_trajectories()
    monkeypatch.setattr("vision.io.writers.atomic.AtomicFile.commit", fail)
    with pytest.raises(OSError, match="No space"):
        write_tracks(tracks, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("act", [read_tracks, lambda path: write_tracks(make_trajectories(), path)])
@pytest.mark.parametrize(("name", "hint"), [("a.parket", "did you mean '.parquet'"), ("tracks", "got 'tracks'")])
def test_unknown_endings(tmp_path: Path, act: Callable[[Path], object], name: str, hint: str) -> None:
    with pytest.raises(InvalidInputError, match=f"must end in .txt, .mot, .csv, .*{hint}"):
        act(tmp_path / name)


def test_options_of_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="only a COCO-video file holds several videos"):
        read_tracks(tmp_path / "a.csv", video="x")
    with pytest.raises(InvalidInputError, match="only a MOTChallenge file has a layout"):
        write_tracks(make_trajectories(), tmp_path / "a.csv", mot_layout="gt")
    with pytest.raises(InvalidInputError, match="JSON lines are written by stride32 track alone"):
        write_tracks(make_trajectories(), tmp_path / "a.jsonl")


def test_what_mot_loses() -> None:
    tracks = make_trajectories()
    assert lost_columns(tracks, "mot") == ["classes", "marks of filled rows"]
    assert lost_columns(tracks, "mot", mot_layout="gt") == ["scores", "marks of filled rows"]
    assert lost_columns(tracks[:1], "mot") == []
    assert lost_columns(tracks, "csv") == lost_columns(make_trajectories([]), "mot") == []


def write_jsonl(path: Path) -> Path:
    with JsonlWriter(path, class_names=("person",), source="street.mp4") as writer:
        for index in range(3):
            seen = make_tracks((4, (1, 2, 3 + index, 4)))
            writer.write(
                None, make_result(index, tracks=seen, detections=make_detections((0, 0, 1, 1)), time_s=index / 5)
            )
        writer.write(None, make_result(3, tracks=make_tracks((5, (1, 2, 3, 4)), state=TENTATIVE), time_s=0.6))
        writer.write(None, make_result(4, tracks=make_tracks((4, (1, 2, 3, 4)), missed=1), time_s=0.8))
    return path


def test_json_lines(tmp_path: Path) -> None:
    found, header = read_track_file(write_jsonl(tmp_path / "a.jsonl"))
    assert (found.frames.tolist(), found.ids.tolist()) == ([0, 1, 2], [4, 4, 4])
    assert found.boxes[:, 2].tolist() == [3, 4, 5]
    assert header == TracksHeader(class_names=("person",), fps=5, source="street.mp4", size_hw=(60, 80), frame_count=5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"kind":"header"', '"kind":"other"', "must begin with the header line"),
        ('"frame_index":1', '"frame_index":"one"', r"a\.jsonl line 3: .*'one'"),
        ('"ids":[4]', '"ids":["four"]', r"a\.jsonl line 2: .*'four'"),
        ('"ids":[4]', '"ids":[4,4]', r"a\.jsonl line 2: ids must be \[N\]"),
        ('"tracks":{', '"tracks":[{', r"a\.jsonl line 2 must be JSON"),
        ('"tracks"', '"trax"', r"a\.jsonl must hold tracks, frame_index 0 has none"),
        ('"frame_index":1', '"frame_index":0', r"a\.jsonl: a track must have at most one box in a frame"),
        ('"timings_ms":{}', '"timings_ms":"no"', r"a\.jsonl line 2: "),
    ],
)
def test_json_lines_that_do_not_fit(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"fps": 0.0}, "fps must be a finite number above 0, got 0.0"),
        ({"fps": float("nan")}, "fps must be"),
        ({"size_hw": (0, 5)}, "size_hw must be"),
        ({"frame_count": -1}, "frame_count must be >= 0"),
    ],
)
def test_headers_are_checked(facts: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        TracksHeader(**facts)  # type: ignore[arg-type]


def test_summary() -> None:
    summary = summarize(make_trajectories(), HEADER)
    assert json.loads(json.dumps(summary.to_dict())) == {
        "rows": 4, "filled": 1, "tracks": 2, "frames_with_tracks": 3, "first_frame": 0, "last_frame": 4,
        "frame_count": 6, "longest_id": 1, "longest_rows": 3, "median_rows": 2.0, "gaps": 1, "gap_frames": 2,
        "longest_gap": 2, "mean_score": pytest.approx(0.6), "classes": {"person": 3, "dog": 1}, "fps": 12.5,
        "source": "street.mp4", "size_hw": [480, 640],
    }  # fmt: skip
    assert summary.lines() == [
        "tracks        2, 4 rows, 1 of them filled",
        "source        street.mp4",
        "frames        3 of 6 with tracks, index 0 to 4",
        "frame rate    12.5 frames/s",
        "frame size    640 x 480",
        "length        median 2 rows, longest 3 (id 1)",
        "gaps          1, 2 frames, longest 2",
        "mean score    0.600",
        "classes       person 3, dog 1",
    ]


def test_summary_of_nothing() -> None:
    summary = summarize(make_trajectories([]))
    assert summary.lines() == ["tracks        0, 0 rows"]
    assert json.loads(json.dumps(summary.to_dict()))["mean_score"] is None
