"""A finished job in other formats: ``results.jsonl`` and ``results.coco.json``, made from its shards one after the
other."""

from __future__ import annotations

from typing import Any

import orjson

from vision.batch.coco_export import write_coco
from vision.batch.export_file import building, check_format
from vision.batch.job_record import read_record
from vision.batch.output import Output
from vision.batch.rows import Row, read_rows
from vision.batch.schema import SCHEMA_VERSION
from vision.batch.shard_summary import read_summary, shard_names
from vision.geometry.rle import compress_counts

JSONL_FILE = "results.jsonl"

__all__ = ["check_format", "write_coco", "write_jsonl"]


def write_jsonl(output: Output) -> int:
    """Write ``results.jsonl``: a header, then one row a line; return how many rows.

    A row has the names of the Parquet columns, but masks carry their run lengths as pycocotools reads them.

    Raises:
        InvalidInputError: there is no job, a shard is damaged, or the output takes no more.
    """
    record, names = read_record(output), shard_names(output)
    header = {
        "stride32": record.version,
        "kind": "header",
        "class_names": list(read_summary(output, names[0]).header.class_names) if names else [],
        "config": record.identity,
        "source": record.source,
        "task": record.task,
        "models": record.models,
        "schema_version": SCHEMA_VERSION,
    }
    count = 0
    with building(output, JSONL_FILE) as file:
        file.write(orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE))
        for name in names:
            for row in read_rows(output, name):
                # float32 as the shortest text that reads back as the same float32.
                file.write(orjson.dumps(_plain(row), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
                count += 1
    return count


def _plain(row: Row) -> dict[str, Any]:
    """Return a row with its masks in one list, as in Parquet."""
    if "mask_labels" not in row:
        return row
    masks = zip(row["mask_labels"], row["mask_names"], row["mask_areas"], row["mask_counts"], strict=True)
    size = [row["height"], row["width"]]
    head = {name: value for name, value in row.items() if not name.startswith("mask_")}
    return head | {
        "masks": [
            {
                "label": label,
                "name": name,
                "area": area,
                "segmentation": {"size": size, "counts": compress_counts(counts)},
            }
            for label, name, area, counts in masks
        ]
    }
