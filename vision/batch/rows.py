"""Parquet's columns back to rows as the core made them: for exports, reports and checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.batch.output import Output
from vision.errors import InvalidInputError

Row = dict[str, Any]
Column = npt.NDArray[Any]


def table_rows(table: Any) -> Iterator[Row]:
    """Return the rows of a table, as the core made them, and with the names: ``names``, or ``mask_names``."""
    if not table.num_rows:
        return
    columns: dict[str, Sequence[Any]] = {}
    for name in table.column_names:
        column = _one_chunk(table.column(name))
        columns |= _READERS[name](column) if name in _READERS else {name: column.to_pylist()}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def read_rows(output: Output, name: str, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Return the rows of a shard's file, one row group after the other.

    Args:
        output: of the job.
        name: of the file.
        columns: those that are wanted; None for all.

    Raises:
        InvalidInputError: the file cannot be read as Parquet, or a checksum of a page is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with output.open(name) as raw, pq.ParquetFile(raw, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield from table_rows(file.read_row_group(group, columns))
    except (OSError, pa.ArrowException) as exc:
        raise InvalidInputError(
            f"{output.locate(name)} must be a whole Parquet file, found: {str(exc).splitlines()[0]}; run "
            "stride32 batch verify, which says what to do",
        ) from exc


def _one_chunk(column: Any) -> Any:
    combined = column.combine_chunks()
    # Of several chunks some versions of pyarrow make one chunk, and others an array.
    return combined.chunk(0) if hasattr(combined, "num_chunks") and combined.num_chunks else combined


def _numbers(values: Any) -> Column:
    numbers: Column = values.to_numpy(zero_copy_only=False)
    return numbers


def _ends(column: Any) -> Column:
    """Return where the list of each row ends among the flattened values, the last one left out."""
    import pyarrow.compute as pc

    return np.cumsum(_numbers(pc.list_value_length(column)))[:-1]


def _split(column: Any, width: int = 0) -> list[Column]:
    flat = column.flatten()
    values = _numbers(flat.flatten()).reshape(-1, width) if width else _numbers(flat)
    return np.split(values, _ends(column))


def _read_masks(column: Any) -> dict[str, Sequence[Any]]:
    masks, ends = column.flatten(), _ends(column)
    fields = dict(zip(("labels", "names", "areas", "counts"), masks.flatten(), strict=True))
    runs, names = _split(fields["counts"]), fields["names"].to_pylist()
    limits = [0, *ends.tolist(), len(names)]
    spans = [slice(limits[at], limits[at + 1]) for at in range(len(column))]
    return {
        "mask_labels": np.split(_numbers(fields["labels"]), ends),
        "mask_names": [tuple(names[span]) for span in spans],
        "mask_areas": np.split(_numbers(fields["areas"]), ends),
        "mask_counts": [runs[span] for span in spans],
    }


def _read_boxes(column: Any) -> dict[str, Sequence[Any]]:
    return {"boxes": _split(column, 4)}


def _read_embeddings(column: Any) -> dict[str, Sequence[Any]]:
    return {"embedding": list(_numbers(column.flatten()).reshape(len(column), -1))}


def _read_names(column: Any) -> dict[str, Sequence[Any]]:
    return {"names": [tuple(names) for names in column.to_pylist()]}


def _reader_of(name: str) -> Callable[[Any], dict[str, Sequence[Any]]]:
    """Return a reader of a column of lists of numbers."""
    return lambda column: {name: _split(column)}


_READERS: dict[str, Callable[[Any], dict[str, Sequence[Any]]]] = {
    "boxes": _read_boxes,
    "masks": _read_masks,
    "embedding": _read_embeddings,
    "names": _read_names,
    **{name: _reader_of(name) for name in ("scores", "labels", "track_ids")},
}
