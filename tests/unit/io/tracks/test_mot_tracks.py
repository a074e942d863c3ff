"""MOTChallenge files of tracks: the variants of the benchmark, what is kept, and what is wrong where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from track_rows import HEADER, assert_close, make_trajectories

from vision.errors import InvalidInputError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks, write_tracks
from vision.io.writers.mot import read_mot


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("tail", "score", "label"),
    [
        ("", 1.0, 0),
        (",0.5", 0.5, 0),
        (",0.5,3", 0.5, 2),
        (",0.5,-1", 0.5, 0),
        (",1,7,0.25", 1.0, 6),
        (",0,1,1", 0.0, 0),
        (",0.5,-1,-1,-1", 0.5, 0),
        (",1,4.5,-2.25,0.125", 1.0, 0),
    ],
    ids=["6", "7", "8", "8 without class", "9 gt", "9 gt to ignore", "10", "10 with world coordinates"],
)
def test_the_variants_of_the_benchmark(tmp_path: Path, tail: str, score: float, label: int) -> None:
    found, header = read_track_file(write(tmp_path, f"3,12,10.5,20,30,40{tail}\n1,12,0,0,5,5{tail}\n"))
    assert found.frames.tolist() == [0, 2]
    assert found.ids.tolist() == [12, 12]
    assert found.boxes.tolist() == [[0, 0, 5, 5], [10.5, 20, 40.5, 60]]
    assert found.scores.tolist() == [score, score]
    assert found.labels.tolist() == [label, label]
    assert not found.filled.any()
    assert header == TracksHeader()


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 4 5 6 .5\n",
        "1, 2, 3, 4, 5, 6, 0.5",
        "\n\n1,2,3,4,5,6,5e-1\r\n\n",
        "\ufeff1,2,3,4,5,6,0.5,\n",
        "1\t2 3,4,5 6 .5",
    ],
    ids=["spaces", "comma and space", "blank lines", "mark and last comma", "mixed"],
)
def test_separators(tmp_path: Path, text: str) -> None:
    found = read_tracks(write(tmp_path, text))
    assert (found.frames.tolist(), found.ids.tolist(), found.scores.tolist()) == ([0], [2], [0.5])
    assert found.boxes.tolist() == [[3, 4, 8, 10]]


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    assert len(read_tracks(write(tmp_path, text))) == 0


GOOD = "1,1,0,0,5,5,1,-1,-1,-1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,0,0,5\n", r"a\.txt line 1 must have at least 6 columns .* got 5"),
        ("1,1,0,0,5,5,1,1,1,1,1\n", r"line 1 must have 6 to 10 columns .* got 11"),
        (GOOD + "\n2,1,0,0,5,5,1\n", r"line 3 must have 10 columns as those before it, got 7"),
        (GOOD + "2,1,0,x,5,5,1,-1,-1,-1\n", r"line 2 must hold numbers only, .*'x'"),
        (GOOD + "2,1,0,nan,5,5,1,-1,-1,-1\n", "line 2 must hold finite numbers"),
        (GOOD + "2,1,0,1e39,5,5,1,-1,-1,-1\n", r"line 2 must have a finite y1, got 1e\+39"),
        (GOOD + "0,1,0,0,5,5,1,-1,-1,-1\n", "line 2 must begin with a frame number from 1, got 0"),
        (GOOD + "2.5,1,0,0,5,5,1,-1,-1,-1\n", "line 2 must have a whole number as frame, got 2.5"),
        (GOOD + "\n2,-1,0,0,5,5,1,-1,-1,-1\n", "line 3 must have a track id >= 0, got -1; a file of detections"),
        (GOOD + "2,1.5,0,0,5,5,1,-1,-1,-1\n", "line 2 must have a whole number as track id, got 1.5"),
        (GOOD + "2,1,0,0,-5,5,1,-1,-1,-1\n", "line 2 must have w and h >= 0, got -5 and 5"),
        (GOOD + "\n\n" + GOOD, "line 4 must have a track id of its own in frame 1, got 1 a second time"),
        ("1,1,0,0,5,5,1,0,1\n", "line 1 must have a class from 1 to 65536, got 0"),
        ("1,1,0,0,5,5,1,1.5,1\n", "line 1 must have a whole number as class, got 1.5"),
    ],
)
def test_what_is_wrong_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(write(tmp_path, text))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x01", None], ids=["binary", "absent"])
def test_what_is_no_text(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mot"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.mot must be a MOTChallenge text file, failed to read it"):
        read_tracks(path)


def test_results_keep_all_but_classes_and_marks(tmp_path: Path) -> None:
    path, tracks = tmp_path / "a.txt", make_trajectories()
    write_tracks(tracks, path, header=HEADER)
    assert path.read_text().splitlines()[:2] == [
        "1,1,1.25,2.50,28.75,38.25,0.9000,-1,-1,-1",
        "1,7,100.00,50.00,40.00,100.00,0.5000,-1,-1,-1",
    ]
    bare = make_trajectories([(0, 1, (1.25, 2.5, 30, 40.75), 0.9, 0, False)])
    assert_close(read_tracks(path)[:1], bare, pixels=0, score=0)
    assert list(read_mot(path)) == [0, 1, 4]


def test_ground_truth_keeps_classes(tmp_path: Path) -> None:
    path, tracks = tmp_path / "a.txt", make_trajectories()
    write_tracks(tracks, path, mot_layout="gt")
    assert path.read_text().splitlines()[1] == "1,7,100.00,50.00,40.00,100.00,1,3,1"
    found = read_tracks(path)
    np.testing.assert_array_equal(found.labels, tracks.labels)
    assert found.scores.tolist() == [1] * 4


@pytest.mark.data
def test_the_benchmark_itself(data_dir: Path) -> None:
    found = read_tracks(data_dir / "mot15" / "TUD-Campus" / "gt" / "gt.txt")
    assert (len(found), len(found.track_ids), int(found.frames[-1])) == (359, 8, 70)
