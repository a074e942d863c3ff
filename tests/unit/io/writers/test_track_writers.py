"""The live writers of tracks for other tools: Parquet and COCO-video."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from io_results import TENTATIVE, make_detections, make_result, make_tracks

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.tracks import TracksHeader, read_track_file, read_tracks
from vision.io.writers import parquet
from vision.io.writers.base import Writer
from vision.io.writers.coco_video import CocoVideoWriter
from vision.io.writers.parquet import ParquetWriter
from vision.tracking.trajectories import TRAJECTORY_FIELDS, Trajectories
from vision.types import FrameResult, Tracks

KINDS: list[tuple[type[ParquetWriter] | type[CocoVideoWriter], str]] = [
    (ParquetWriter, "a.parquet"),
    (CocoVideoWriter, "a.json"),
]


def results() -> list[FrameResult]:
    """Return a track with a gap, beside tentative and coasting ones that are not written; the last frame is empty."""
    detected = replace(make_tracks((4, (1, 2, 3.5, 4))), detection_index=np.array([0]))
    return [
        make_result(0, tracks=detected, time_s=0.0, source="v.mp4"),
        make_result(1, tracks=make_tracks((4, (1, 2, 3, 4)), missed=1), time_s=0.1, source="v.mp4"),
        make_result(2, tracks=make_tracks((4, (1, 2, 5, 4)), (9, (0, 0, 1, 1))), time_s=0.2, source="v.mp4"),
        make_result(3, tracks=make_tracks((11, (1, 2, 5, 4)), state=TENTATIVE), time_s=0.3, source="v.mp4"),
    ]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_what_is_written_is_read(tmp_path: Path, kind: type[ParquetWriter], name: str) -> None:
    path = tmp_path / name
    with kind(path, class_names=("person",), fps=10.0, source="v.mp4") as writer:
        for result in results():
            writer.write(None, result)
        assert not path.exists()
    found, header = read_track_file(path)
    expected = Trajectories.from_results(results())
    assert expected.filled.tolist() == [False, True, True]
    for column in TRAJECTORY_FIELDS:
        np.testing.assert_allclose(getattr(found, column), getattr(expected, column), atol=1e-5, err_msg=column)
    assert header == TracksHeader(class_names=("person",), fps=10, source="v.mp4", size_hw=(60, 80), frame_count=4)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_existing_outputs_are_refused(tmp_path: Path, kind: type[ParquetWriter], name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        kind(path)
    with kind(path, overwrite=True):
        pass
    assert len(read_tracks(path)) == 0


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_an_interruption_leaves_a_valid_file_of_what_was_finished(
    tmp_path: Path, kind: type[ParquetWriter], name: str
) -> None:
    def run() -> None:
        with kind(tmp_path / name) as writer:
            writer.write(None, results()[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert read_tracks(tmp_path / name).ids.tolist() == [4]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_abort_leaves_nothing_and_close_after_it_does_nothing(
    tmp_path: Path, kind: type[ParquetWriter], name: str
) -> None:
    writer: Writer = kind(tmp_path / name)
    writer.write(None, results()[0])
    writer.abort()
    writer.abort()
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_results_without_tracks_are_refused(tmp_path: Path, kind: type[ParquetWriter], name: str) -> None:
    with kind(tmp_path / name) as writer, pytest.raises(InvalidInputError, match="need"):
        writer.write(None, make_result())


def test_detections_have_no_ids_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with ParquetWriter(path, class_names=("cat",)) as writer:
        writer.write(None, make_result(2, detections=make_detections((1, 2, 3, 4), label=1), source="7.jpg"))
    row = pq.read_table(path).to_pylist()[0]
    assert (row["track_id"], row["class_name"], row["source"], row["timestamp_s"]) == (None, "1", "7.jpg", None)
    with pytest.raises(InvalidInputError, match="these are detections"):
        read_tracks(path)


def test_memory_does_not_grow_with_the_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 400)
    column = np.arange(20)
    boxes = np.tile(np.float32([0, 0, 9, 9]), (20, 1))
    tracks = Tracks(boxes, column, np.ones(20), column * 0, column * 0 + 2, column, column * 0, column)
    path = tmp_path / "a.parquet"
    with ParquetWriter(path) as writer:
        for index in range(40):
            writer.write(None, FrameResult(index, tracks=tracks))
        nothing = FrameResult(40, tracks=Tracks.empty())
        tracemalloc.start()
        try:
            for index in range(40, 400):
                writer.write(None, FrameResult(index, tracks=tracks))
            for _ in range(2000):
                writer.write(None, nothing)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert grown < 200_000
    assert pq.ParquetFile(path).num_row_groups == 20
    assert len(read_tracks(path)) == 8000
