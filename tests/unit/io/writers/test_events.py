from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from io_results import make_frame, make_result, make_tracks

from vision.analytics.counting import Counting
from vision.analytics.spec import parse_spec
from vision.errors import InvalidInputError, MissingDependencyError, OutputExistsError
from vision.io.writers.events import COLUMNS, CountFiles, CountWriter, check_events_path
from vision.io.writers.pictures import MapsWriter

SPEC = {
    "units": "relative",
    "lines": [{"name": "door", "from": [0, 0.5], "to": [1, 0.5]}],
    "zones": [{"name": "hall", "polygon": [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]}],
}


def write_walk(writer: CountWriter, frames: int = 6) -> None:
    """Write a track that walks upwards over the line at y = 30 into the zone above it."""
    for index in range(frames):
        bottom = 50 - 8 * index
        tracks = make_tracks((3, (10, bottom - 20, 20, bottom)))
        writer.write(make_frame(index), make_result(index, tracks=tracks, time_s=index / 10))


def make_counting() -> Counting:
    return Counting(parse_spec(SPEC), class_names=("person",))


def test_events_are_rows_and_totals_are_json(tmp_path: Path) -> None:
    files = CountFiles(events=tmp_path / "out" / "events.csv", counts=tmp_path / "counts.json")
    with CountWriter(make_counting(), files, source="street.mp4") as writer:
        write_walk(writer)
        assert files.events is not None
        assert "cross" in files.events.with_name("events.csv.part").read_text()
    writer.close()
    rows = list(csv.DictReader(files.events.read_text().splitlines()))
    assert [(row["kind"], row["counter"], row["frame_index"], row["timestamp_s"]) for row in rows] == [
        ("cross", "door", "3", "0.300"), ("enter", "hall", "3", "0.300"), ("present", "hall", "5", "0.500"),
    ]  # fmt: skip
    assert [(row["class_name"], row["direction"], row["dwell_s"], row["dwell_frames"]) for row in rows] == [
        ("person", "in", "", ""), ("person", "in", "", ""), ("person", "", "0.200", "2"),
    ]  # fmt: skip
    plain = json.loads((tmp_path / "counts.json").read_text())
    assert (plain["source"], plain["frames"], plain["lines"]["door"]["in"]) == ("street.mp4", 6, 1)
    assert plain["spec"]["units"] == "relative"


def test_parquet_holds_the_same_events_with_types(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    for name in ("events.csv", "events.parquet"):
        with CountWriter(make_counting(), CountFiles(events=tmp_path / name)) as writer:
            write_walk(writer)
    table = pq.read_table(tmp_path / "events.parquet")
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    texts = list(csv.DictReader((tmp_path / "events.csv").read_text().splitlines()))
    assert [(row["kind"], row["track_id"]) for row in rows] == [(row["kind"], int(row["track_id"])) for row in texts]
    assert (rows[0]["dwell_s"], rows[2]["dwell_s"]) == (None, pytest.approx(0.2))


@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
def test_a_run_without_frames_leaves_valid_files(name: str, tmp_path: Path) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    with CountWriter(make_counting(), CountFiles(events=tmp_path / name, counts=tmp_path / "counts.json")):
        pass
    assert (tmp_path / name).stat().st_size > 0
    assert json.loads((tmp_path / "counts.json").read_text())["frames"] == 0


def test_what_exists_is_kept_and_what_is_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("mine")
    files = CountFiles(events=tmp_path / "events.csv", counts=tmp_path / "counts.json")
    with pytest.raises(OutputExistsError):
        CountWriter(make_counting(), files)
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]
    writer = CountWriter(make_counting(), files, overwrite=True)
    write_walk(writer)
    writer.abort()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["events.csv"]
    assert (tmp_path / "events.csv").read_text() == "mine"


def test_results_without_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="need tracks"):
        CountWriter(make_counting(), CountFiles()).write(make_frame(), make_result())
    maps = MapsWriter(heatmap=tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match="need pictures and tracks"):
        maps.write(None, make_result(tracks=make_tracks()))
    maps.abort()
    assert list(tmp_path.iterdir()) == []


def test_only_known_formats_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match=r"must end in \.csv or \.parquet"):
        check_events_path(Path("events.xlsx"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"stride32\[batch\]"):
        check_events_path(Path("events.parquet"))


def test_maps_are_written_at_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from PIL import Image

    writer = MapsWriter(heatmap=tmp_path / "heat.png", trajectories=tmp_path / "paths.png")
    for index in range(5):
        tracks = make_tracks((3, (10 + 8 * index, 10, 20 + 8 * index, 40)))
        writer.write(make_frame(index), make_result(index, tracks=tracks))
        writer.write(make_frame(index, (6, 8)), make_result(index, tracks=tracks))
    assert not (tmp_path / "heat.png").exists()
    writer.close()
    writer.close()
    for name in ("heat.png", "paths.png"):
        with Image.open(tmp_path / name) as opened:
            picture = np.asarray(opened)
        assert picture.shape == (60, 80, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1
    with MapsWriter(heatmap=tmp_path / "none.png"):
        pass
    assert not (tmp_path / "none.png").exists()
    assert "there was no frame" in caplog.text
