"""The lines of docs/batch-schema.md, run as they stand there against jobs; and the page against the schema."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import batch_jobs
import numpy as np
import pytest

from vision.batch.config import TASKS
from vision.batch.output import open_output
from vision.batch.schema import SCHEMA_VERSION, arrow_schema
from vision.geometry.rle import decode_mask

PAGE = (Path(__file__).parents[3] / "docs" / "batch-schema.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python[^\n]*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PICTURES = [item for shard in batch_jobs.make_manifest(videos=(4,)).shards for item in shard.items]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_jobs.install_manifest(monkeypatch)
    monkeypatch.chdir(tmp_path)


def run_block(words: str, task: Any) -> dict[str, Any]:
    """Run the one block that has these words, beside a job of the task in ``out``."""
    (block,) = [each for each in BLOCKS if words in each]
    batch_jobs.write_job(open_output("out"), task, manifest=batch_jobs.make_manifest(videos=(4,)))
    found: dict[str, Any] = {}
    exec(compile(block, "batch-schema.md", "exec"), found)
    return found


def rows_of(task: str) -> list[dict[str, Any]]:
    return [row for item in PICTURES for row in batch_jobs.make_rows(task, item)]


@pytest.mark.parametrize("words", ['pd.read_parquet("out/rows")\n', "pl.read_parquet", "SELECT *"])
@pytest.mark.parametrize("task", TASKS)
def test_one_line_reads_all_rows(words: str, task: Any) -> None:
    block = next(each for each in BLOCKS if words in each)
    batch_jobs.write_job(open_output("out"), task, manifest=batch_jobs.make_manifest(videos=(4,)))
    found: dict[str, Any] = {}
    exec(compile(block, "batch-schema.md", "exec"), found)
    table = found["table"]
    columns = {"pd": lambda: table.to_dict("list"), "pl": lambda: table.to_dict(as_series=False)}
    if "duckdb" in found:
        result = table.fetchall()
        read = {name: [row[at] for row in result] for at, name in enumerate(table.columns)}
    else:
        read = columns["pd" if "pd" in found else "pl"]()
    expected = rows_of(task)
    assert list(read) == arrow_schema(task, batch_jobs.DIM).names
    assert read["item"] == [row["item"] for row in expected]
    assert read["path"] == [row["path"] for row in expected]
    times = [None if value is None or value != value else value for value in read["timestamp_s"]]
    assert times == [row["timestamp_s"] for row in expected]
    for at, row in enumerate(expected):
        for name in ("boxes", "scores", "labels", "track_ids", "embedding"):
            if name in row:
                values = [np.asarray(value, np.float32) for value in read[name][at]]
                assert np.array_equal(np.array(values).reshape(row[name].shape), row[name].astype(np.float32))
        if "mask_counts" in row:
            assert [list(mask["counts"]) for mask in read["masks"][at]] == [
                runs.tolist() for runs in row["mask_counts"]
            ]


def test_boxes_as_rows() -> None:
    boxes = run_block("unnest", "detect")["boxes"].fetchall()
    expected = sorted((float(score) for row in rows_of("detect") for score in row["scores"]), reverse=True)
    assert [row[3] for row in boxes] == expected
    assert {row[2] for row in boxes} == {*batch_jobs.CLASS_NAMES, "2"}
    assert len(boxes[0][4]) == 4


def test_pictures_of_each_class() -> None:
    counts = dict(run_block("scan_parquet", "track")["counts"].rows())
    names = [*batch_jobs.CLASS_NAMES, "2"]
    assert counts == {name: sum(label in row["labels"] for row in rows_of("track")) for label, name in enumerate(names)}


def test_what_a_file_was_made_with(capsys: pytest.CaptureFixture[str]) -> None:
    facts = run_block("read_metadata", "detect")["facts"]
    assert facts["models"] == batch_jobs.MODELS
    assert "person-lite0" in capsys.readouterr().out
    listed = PAGE.partition("## Metadata")[2].partition("## Reading")[0]
    assert set(facts) <= set(re.findall(r"`(\w+)`", listed))


def test_masks() -> None:
    from faster_coco_eval.core import mask as coco_mask

    found = run_block("decode_mask", "segment")
    expected = [decode_mask({"counts": runs, "size": [6, 8]}) for runs in rows_of("segment")[0]["mask_counts"]]
    assert [mask.tolist() for mask in found["masks"].values()] == [mask.tolist() for mask in expected]
    assert [coco_mask.decode(each).tolist() for each in found["for_pycocotools"]] == [
        mask.astype(int).tolist() for mask in expected
    ]


def test_embeddings() -> None:
    assert run_block("np.stack", "embed")["embeddings"].shape == (len(PICTURES) + 2, batch_jobs.DIM)


def test_the_page_has_every_column_and_the_version() -> None:
    assert f"**version {SCHEMA_VERSION}**" in PAGE
    for task in TASKS:
        for regression in (False, True):
            for name in arrow_schema(task, 4, regression=regression).names:
                assert f"`{name}`" in PAGE
