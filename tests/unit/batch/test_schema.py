from __future__ import annotations

from typing import Any

import batch_jobs
import numpy as np
import pyarrow as pa
import pytest

from vision.batch.config import TASKS
from vision.batch.items import Item
from vision.batch.rows import table_rows
from vision.batch.schema import arrow_schema, to_record_batch
from vision.errors import StateError

PICTURES = [Item(i, f"é {i}.jpg", f"/in/{i}", "image") for i in range(9)]


def make_table(task: Any, rows: list[dict[str, Any]], *, regression: bool = False) -> pa.Table:
    schema = arrow_schema(task, batch_jobs.DIM, regression=regression)
    batch = to_record_batch(schema, rows, batch_jobs.CLASS_NAMES)
    batch.validate(full=True)
    return pa.Table.from_batches([batch])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and bool((a == b).all())
    return bool(a == b)


@pytest.mark.parametrize("task", [*TASKS, "regression"])
@pytest.mark.parametrize("count", [0, 1, 9])
def test_rows_come_back_as_they_went_in(task: Any, count: int) -> None:
    regression, task = task == "regression", "classify" if task == "regression" else task
    rows = [row for item in PICTURES[:count] for row in batch_jobs.make_rows(task, item, regression=regression)]
    back = list(table_rows(make_table(task, rows, regression=regression)))
    assert len(back) == count
    for row, again in zip(rows, back, strict=True):
        assert set(again) - set(row) <= {"names", "mask_names"}
        assert all(same(value, again[name]) for name, value in row.items())


def test_rows_of_several_chunks_and_of_a_slice_come_back() -> None:
    rows = [row for item in PICTURES for row in batch_jobs.make_rows("segment", item)]
    table = make_table("segment", rows)
    for view in (pa.concat_tables([table.slice(2, 3), table.slice(5, 4)]), table.slice(2)):
        for row, again in zip(rows[2:], table_rows(view), strict=True):
            assert same(row["mask_counts"], again["mask_counts"])
            assert again["mask_names"] == tuple([*batch_jobs.CLASS_NAMES, "2"][label] for label in row["mask_labels"])


def test_names_are_those_of_the_labels_and_a_label_without_one_is_its_number() -> None:
    row = batch_jobs.make_rows("detect", PICTURES[3])[0] | {"labels": np.array([1, 0, 7])}
    assert make_table("detect", [row]).column("names").to_pylist() == [["Fußgänger ☂", "person", "7"]]


def test_only_the_time_of_a_picture_is_missing() -> None:
    for task in TASKS:
        schema = arrow_schema(task, 4)
        assert [field.name for field in schema if field.nullable] == ["timestamp_s"]
        assert schema.names[:6] == ["item", "path", "frame_index", "timestamp_s", "height", "width"]


def test_sizes_of_the_types() -> None:
    assert arrow_schema("embed", 64).field("embedding").type.list_size == 64
    boxes = arrow_schema("track").field("boxes").type
    assert (boxes.value_type.list_size, boxes.value_type.value_type) == (4, pa.float32())


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("detect", {"boxes": np.full((3, 4), np.nan, np.float32)}),
        ("detect", {"scores": np.array([0, 1, np.inf], np.float32)}),
        ("detect", {"boxes": np.zeros((3, 5), np.float32)}),
        ("detect", {"labels": np.array([0, 1, 2**40])}),
        ("detect", {"height": None}),
        ("detect", {"path": 5}),
        ("embed", {"embedding": np.full(batch_jobs.DIM, np.inf, np.float32)}),
        ("embed", {"embedding": np.zeros(batch_jobs.DIM + 1, np.float32)}),
        ("segment", {"mask_labels": np.array([1])}),
    ],
)
def test_a_row_that_the_core_may_not_make_is_told_of(task: Any, change: dict[str, Any]) -> None:
    row = batch_jobs.make_rows(task, PICTURES[3])[0]
    with pytest.raises(StateError, match="item 3"):
        make_table(task, [row | change])
    row.pop(next(iter(change)))
    with pytest.raises(StateError, match="item 3"):
        make_table(task, [row])
