"""Parquet files of tracks: lossless, documented, readable by others and from others."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from track_rows import HEADER, assert_close, make_trajectories

from vision.errors import InvalidInputError, MissingDependencyError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks, write_tracks
from vision.io.writers import parquet as writer

FOREIGN: dict[str, Any] = {
    "frame_index": [0, 1], "track_id": [3, 3], "x1": [1.0, 2.0], "y1": [1.0, 2.0], "x2": [5.0, 6.0], "y2": [5.0, 6.0],
}  # fmt: skip


def write(tmp_path: Path, columns: dict[str, Any], metadata: dict[str, str] | None = None) -> Path:
    path = tmp_path / "a.parquet"
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


def test_there_and_back_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rng = np.random.default_rng(5)
    tracks = make_trajectories(
        [(i, 1, np.sort(rng.normal(0, 1e3, (2, 2)), 0).ravel(), 0.1 * i, i, i % 2 == 0) for i in range(5)]
    )
    write_tracks(tracks, path, header=HEADER)
    found, header = read_track_file(path)
    assert_close(found, tracks, pixels=0, score=0)
    assert header == HEADER


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_tracks(make_trajectories(), path, header=HEADER)
    file = pq.ParquetFile(path)
    types = {field.name: str(field.type) for field in file.schema_arrow}
    words = "dictionary<values=string, indices=int32, ordered=0>"
    assert types == {
        "frame_index": "int64", "timestamp_s": "double", "source": words, "track_id": "int64", "label": "int64",
        "class_name": words, "score": "float", "x1": "float", "y1": "float", "x2": "float", "y2": "float",
        "filled": "bool",
    }  # fmt: skip
    assert json.loads(file.metadata.metadata[b"stride32.tracks"]) == {
        "version": 1, "class_names": ["person", 'car, "red"', "dog"], "fps": 12.5, "source": "street.mp4",
        "size_hw": [480, 640], "frame_count": 6,
    }  # fmt: skip
    assert file.read().slice(1, 1).to_pylist() == [
        {
            "frame_index": 0, "timestamp_s": 0.0, "source": "street.mp4", "track_id": 7, "label": 2,
            "class_name": "dog", "score": 0.5, "x1": 100.0, "y1": 50.0, "x2": 140.0, "y2": 150.0, "filled": False,
        }
    ]  # fmt: skip


def test_one_line_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "a.parquet"
    write_tracks(make_trajectories(), path, header=HEADER)
    frame = pandas.read_parquet(path)
    assert frame.groupby("track_id").size().to_dict() == {1: 3, 7: 1}
    again = tmp_path / "again.parquet"
    frame.to_parquet(again)
    assert_close(read_tracks(again), make_trajectories(), pixels=0, score=0)


def test_many_rows_make_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROW_GROUP", 3)
    path, tracks = (
        tmp_path / "a.parquet",
        make_trajectories([(i, 1, (0, 0, i, i), 0.5, i % 4, False) for i in range(8)]),
    )
    output = writer.ParquetFile(path)
    for row in range(8):
        part = tracks[row : row + 1]
        columns = {"boxes": part.boxes, "scores": part.scores, "labels": part.labels}
        output.add(columns, frames=part.frames, source=f"{row // 4}.mp4", track_ids=part.ids)
    output.commit(TracksHeader())
    assert pq.ParquetFile(path).num_row_groups == 3
    assert pq.read_table(path).column("source").to_pylist() == ["0.mp4"] * 4 + ["1.mp4"] * 4
    assert_close(read_tracks(path), tracks, pixels=0, score=0)


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_tracks(make_trajectories([]), path, header=HEADER)
    found, header = read_track_file(path)
    assert len(found) == 0
    assert header == HEADER


def test_a_data_frame_without_our_metadata(tmp_path: Path) -> None:
    extra = {"class_name": ["cat", "cat"], "timestamp_s": [0.0, 0.04], "source": ["v", "v"], "note": ["a", "b"]}
    found, header = read_track_file(
        write(tmp_path, FOREIGN | extra | {"x1": np.float64([1, 2]), "track_id": np.uint8([3, 3])})
    )
    assert found.ids.tolist() == [3, 3]
    assert found.labels.tolist() == [0, 0]
    assert found.scores.tolist() == [1, 1]
    assert header == TracksHeader(class_names=("cat",), fps=25, source="v")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x2": None}, r"a\.parquet must have one column x2, found frame_index, track_id, x1, y1, y2"),
        ({"track_id": [None, 1]}, "must have a track_id in each row, found 1 nulls; these are detections"),
        ({"y1": [None, 1.0]}, "must have a number in each row of y1, found double with 1 nulls"),
        ({"y1": ["1", "2"]}, "must have a number in each row of y1, found string"),
        ({"x1": [1.0, np.inf]}, r"a\.parquet row 1 must have a finite x1, got inf"),
        ({"x1": [1.0, 9.0]}, "row 1 must have a width and a height >= 0, got -3 x 4"),
        ({"frame_index": [0, -2]}, "row 1 must have a frame number from 0, got -2"),
        ({"frame_index": [0.0, 0.5]}, "row 1 must have a whole number as frame, got 0.5"),
        ({"frame_index": [7, 7]}, "row 1 must have a track id of its own in frame 7, got 3 a second time"),
        ({"label": [0, -1]}, "row 1 must have a class from 0 to 65535, got -1"),
    ],
)
def test_what_is_wrong_where(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(write(tmp_path, FOREIGN | columns))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ('{"version": 2}', "must have version 1 of the schema, found 2; read it with the newer"),
        ("{", "must have our JSON in its metadata"),
        ("[]", "must have our JSON in its metadata"),
        ('{"version": 1, "class_names": [], "fps": "x", "source": "", "size_hw": null, "frame_count": 1}', "our JSON"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, facts: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_tracks(write(tmp_path, FOREIGN, {"stride32.tracks": facts}))


def test_what_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with pytest.raises(InvalidInputError, match=r"a\.parquet cannot be read: No such file"):
        read_tracks(path)
    path.write_bytes(b"PAR1 but then nothing of the sort")
    with pytest.raises(InvalidInputError, match=r"a\.parquet must be a Parquet file, .*; it may be cut short"):
        read_tracks(path)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else find_spec(name, *rest)
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'stride32\[batch\]'"):
        write_tracks(make_trajectories(), tmp_path / "a.parquet")
    with pytest.raises(MissingDependencyError):
        read_tracks(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
