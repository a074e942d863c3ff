"""CSV files of tracks: ours, data frames' with fewer columns, and what is wrong where."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from io_results import make_detections, make_result, make_tracks
from track_rows import HEADER, assert_close, make_trajectories

from vision.errors import InvalidInputError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks, write_tracks
from vision.io.writers.csv import CsvWriter

NAMES = "frame_index,track_id,x1,y1,x2,y2"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_text(text)
    return path


def test_there_and_back(tmp_path: Path) -> None:
    path, tracks = tmp_path / "a.csv", make_trajectories()
    write_tracks(tracks, path, header=HEADER)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "frame_index": "0", "timestamp_s": "0.000", "source": "street.mp4", "track_id": "7", "label": "2",
        "class_name": "dog", "score": "0.5000", "x1": "100.00", "y1": "50.00", "x2": "140.00", "y2": "150.00",
        "filled": "0",
    }  # fmt: skip
    found, header = read_track_file(path)
    assert_close(found, tracks, pixels=0, score=5e-5)
    # Class 1 has no row, and the other facts no column.
    assert header == TracksHeader(class_names=("person", "1", "dog"), fps=12.5, source="street.mp4")


def test_what_the_live_writer_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with CsvWriter(path, class_names=('a "b", c',)) as writer:
        for index in range(3):
            tracks = make_tracks((4, (1, 2, 3 + index, 4)))
            writer.write(None, make_result(index, tracks=tracks, source="x,y.mp4", time_s=index / 10))
    found, header = read_track_file(path)
    assert found.boxes[:, 2].tolist() == [3, 4, 5]
    assert header == TracksHeader(class_names=('a "b", c',), fps=10, source="x,y.mp4")


def test_columns_in_any_order_with_others_between(tmp_path: Path) -> None:
    text = " y2,x2,y1,x1,colour,track_id,frame_index\n\n4,3,2,1,red,9,5\n"
    found = read_tracks(write(tmp_path, text))
    assert found.boxes.tolist() == [[1, 2, 3, 4]]
    assert (found.frames.tolist(), found.ids.tolist()) == ([5], [9])
    assert (found.scores.tolist(), found.labels.tolist()) == ([1], [0])


def test_names_alone_become_labels_in_order_of_appearance(tmp_path: Path) -> None:
    text = f"{NAMES},class_name\n0,1,0,0,1,1,dog\n0,2,0,0,1,1,cat\n1,1,0,0,1,1,dog\n"
    found, header = read_track_file(write(tmp_path, text))
    assert found.labels.tolist() == [0, 1, 0]
    assert header.class_names == ("dog", "cat")


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_tracks(make_trajectories([]), path)
    assert len(path.read_text().splitlines()) == 1
    assert len(read_tracks(path)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.csv must have one column frame_index, found no columns"),
        ("frame,track_id,x1,y1,x2,y2\n", "must have one column frame_index, found frame, track_id"),
        (f"{NAMES},x1\n", "must have one column x1"),
        (f"{NAMES}\n0,1,0,0,1\n", r"a\.csv line 2 must have 6 cells as the first row has, got 5"),
        (f"{NAMES}\n0,1,0,0,1,1\n\n0,two,0,0,1,1\n", "line 4 must have a number as track_id, got 'two'"),
        (f"{NAMES}\n0,,0,0,1,1\n", "line 2 must have a number as track_id, got ''; detections have no ids"),
        (f"{NAMES}\n0,1,0,0,inf,1\n", "line 2 must have a finite x2, got inf"),
        (f"{NAMES}\n0,1,5,0,1,1\n", "line 2 must have a width and a height >= 0, got -4 x 1"),
        (f"{NAMES}\n-1,1,0,0,1,1\n", "line 2 must have a frame number from 0, got -1"),
        (f"{NAMES}\n0,1e17,0,0,1,1\n", "line 2 must have a whole number as track id"),
        (f'{NAMES},note\n0,1,0,0,1,1,"a\nb"\n0,1,0,0,1,1,c\n', "line 4 must have a track id of its own in frame 0"),
        (f"{NAMES},filled\n0,1,0,0,1,1,maybe\n", "line 2 must have 0 or 1 as filled, got 'maybe'"),
        (f"{NAMES},label\n0,1,0,0,1,1,70000\n", "line 2 must have a class from 0 to 65535, got 70000"),
        (f"{NAMES},label,class_name\n0,1,0,0,1,1,0,a\n1,1,0,0,1,1,0,b\n", "label 0 one class_name, got 'a' and 'b'"),
    ],
)  # fmt: skip
def test_what_is_wrong_where(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(write(tmp_path, text))


def test_detections_are_no_tracks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with CsvWriter(path) as writer:
        writer.write(None, make_result(detections=make_detections((1, 2, 3, 4))))
    with pytest.raises(InvalidInputError, match="detections have no ids"):
        read_tracks(path)


def test_a_fault_far_down_has_its_line(tmp_path: Path) -> None:
    rows = "".join(f"{index},1,0,0,1,1\n" for index in range(45_000))
    with pytest.raises(InvalidInputError, match="line 45002 must have a number as x1, got 'x'"):
        read_tracks(write(tmp_path, f"{NAMES}\n{rows}45000,1,x,0,1,1\n"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None], ids=["binary", "absent"])
def test_what_is_no_csv(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.csv must be a CSV file, failed to read it"):
        read_tracks(path)
