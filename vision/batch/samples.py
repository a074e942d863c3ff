"""Which rows of a job its report shows as pictures: spread evenly over all shards, the fullest among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vision.batch.histogram import BATCH_ROWS
from vision.batch.output import Output
from vision.batch.rows import Row, table_rows
from vision.errors import VisionError

SAMPLES = 12
# The leaf column whose lists are as long as a row has objects; the other tasks have none.
_OBJECTS = {
    "detect": "scores.list.element",
    "track": "scores.list.element",
    "segment": "masks.list.element.label",
}


@dataclass(frozen=True, slots=True)
class ChosenRow:
    """Where a row stands: the name of its shard's file, and which row of it."""

    file: str
    position: int


def choose_rows(output: Output, files: Sequence[str], task: str, count: int = SAMPLES) -> list[ChosenRow]:
    """Return up to ``count`` rows, in order; the same ones whenever they are asked for.

    Args:
        output: of the job.
        files: names of the committed shards' files, sorted.
        task: of the job.
        count: how many rows.
    """
    places = [slot * len(files) // count for slot in range(count)] if files else []
    chosen: list[ChosenRow] = []
    for place in sorted(set(places)):
        # Every second one of all slots asks for a full row, the others for one out of the middle of their part.
        slots = [slot for slot, at in enumerate(places) if at == place]
        objects = _object_counts(output, files[place], task)
        fullest = [slot % 2 == 0 and task in _OBJECTS for slot in slots]
        chosen += [ChosenRow(files[place], position) for position in _positions(objects, fullest)]
    return chosen


def read_row(output: Output, row: ChosenRow) -> Row:
    """Return a row as the core made it, with its names; of its shard one row group is read."""
    import pyarrow.parquet as pq

    with output.open(row.file) as opened, pq.ParquetFile(opened) as file:
        first = 0
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row.position < first + rows:
                return next(table_rows(file.read_row_group(group).slice(row.position - first, 1)))
            first += rows
    raise IndexError(f"{row.file} has {first} rows, row {row.position} is asked for")


def _object_counts(output: Output, file_name: str, task: str) -> npt.NDArray[np.int64]:
    """Return the number of objects in each row of a shard, zeros for tasks without objects; none of a damaged file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with output.open(file_name) as opened, pq.ParquetFile(opened) as file:
            if task not in _OBJECTS:
                return np.zeros(file.metadata.num_rows, np.int64)
            batches = file.iter_batches(batch_size=BATCH_ROWS, columns=[_OBJECTS[task]])
            counts = [pc.fill_null(pc.list_value_length(batch.column(0)), 0).to_numpy() for batch in batches]
    except (OSError, pa.ArrowException, VisionError):
        return np.zeros(0, np.int64)
    return np.concatenate([np.zeros(0, np.int64), *counts])


def _positions(objects: npt.NDArray[np.int64], fullest: Sequence[bool]) -> list[int]:
    """Return a row of each of as many equal parts as there are slots: the fullest of its part, or the middle one.

    The fullest rows of all would be neighbours in a video, and look alike.
    """
    bounds = [slot * len(objects) // len(fullest) for slot in range(len(fullest) + 1)]
    return [
        start + int(objects[start:stop].argmax()) if wants_full else (start + stop) // 2
        for start, stop, wants_full in zip(bounds, bounds[1:], fullest, strict=False)
        if start < stop
    ]
