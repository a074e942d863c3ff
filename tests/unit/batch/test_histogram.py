"""Counts of classes over shard files, checked against what was written into them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vision.batch import histogram
from vision.batch.histogram import ClassCount, ClassHistogram, class_histogram
from vision.batch.local_output import LocalOutput

Count = Callable[..., ClassHistogram]


NAMES = ("person", "car", "tree")
MASKS = pa.list_(
    pa.struct([("label", pa.int32()), ("name", pa.string()), ("area", pa.int64()), ("counts", pa.list_(pa.int32()))])
)


def shard(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@pytest.fixture
def count(tmp_path: Path) -> Callable[..., ClassHistogram]:
    """Count the rows of shards, written one after the other."""

    def counted(task: str, *shards: bytes, class_names: Sequence[str] = NAMES) -> ClassHistogram:
        files = [f"{number}.parquet" for number in range(len(shards))]
        for name, data in zip(files, shards, strict=True):
            (tmp_path / name).write_bytes(data)
        return class_histogram(LocalOutput(str(tmp_path)), files, task, class_names)

    return counted


def labels(*rows: Sequence[int]) -> Any:
    return pa.array([list(row) for row in rows], pa.list_(pa.int32()))


def test_boxes_are_counted_over_shards(count: Count) -> None:
    found = count("detect", shard(labels=labels([0, 0, 1], [])), shard(labels=labels([1], [0])))
    assert (found.rows, found.empty, found.objects) == (4, 1, 5)
    assert found.classes == (ClassCount("person", 3, 2), ClassCount("car", 2, 2))


@pytest.mark.parametrize("batch_rows", [1, 2, 8192])
def test_a_track_counts_once_however_the_rows_are_cut(
    batch_rows: int, monkeypatch: pytest.MonkeyPatch, count: Count
) -> None:
    monkeypatch.setattr(histogram, "BATCH_ROWS", batch_rows)
    ids = pa.array([[1, 2], [1], [1, 3], [1], [1]], pa.list_(pa.int64()))
    file = shard(item=[0, 0, 0, 1, 1], labels=labels([0, 1], [0], [0, 0], [0], [0]), track_ids=ids)
    found = count("track", file)
    assert found.classes == (ClassCount("person", 6, 5, tracks=3), ClassCount("car", 1, 1, tracks=1))


def test_masks_are_counted_by_their_pixels(count: Count) -> None:
    rows = [
        [{"label": 2, "name": "tree", "area": 60, "counts": [40, 60]}],
        [{"label": 0, "name": "person", "area": 10, "counts": [90, 10]}, {"label": 2, "name": "tree", "area": 5}],
        [],
    ]
    file = shard(height=[10, 10, 20], width=[10, 10, 20], masks=pa.array(rows, MASKS))
    found = count("segment", file)
    assert (found.rows, found.empty, found.pixels) == (3, 1, 600)
    assert found.classes == (ClassCount("tree", 2, 2, pixels=65), ClassCount("person", 1, 1, pixels=10))


def test_only_assigned_classes_of_a_classifier_count(count: Count) -> None:
    file = shard(labels=labels([1, 0, 2], [2, 1], [0]), assigned=pa.array([1, 2, 0], pa.int32()))
    found = count("classify", file)
    assert {item.name: item.objects for item in found.classes} == {"car": 2, "tree": 1}
    assert found.empty == 1


def test_values_of_a_regression_are_summed_up(count: Count) -> None:
    shards = [shard(value=[1.0, 3.0]), shard(value=[8.0])]
    assert count("classify", *shards).values == (3, 1.0, 4.0, 8.0)


def test_embeddings_have_no_classes_and_empty_shards_no_rows(count: Count) -> None:
    assert count("embed", shard(item=[0, 1])).rows == 2
    assert (
        count(
            "detect",
        ).rows
        == 0
    )
    assert count("detect", shard(labels=labels())).classes == ()


def test_labels_without_a_name_stand_under_their_number(count: Count) -> None:
    assert count("detect", shard(labels=labels([7])), class_names=()).classes == (ClassCount("7", 1, 1),)


def test_a_damaged_shard_is_left_out_with_a_warning(count: Count, caplog: pytest.LogCaptureFixture) -> None:
    whole = shard(labels=labels([0]))
    assert count("detect", whole, whole[:40], b"", whole).objects == 2
    assert "1.parquet" in caplog.text
    assert "2.parquet" in caplog.text
