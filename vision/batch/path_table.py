"""The paths that a list names: lines of a text file, or a column of a CSV or Parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from csv import reader as csv_lines
from typing import Any, BinaryIO

from vision.batch.columns import require_arrow
from vision.errors import InvalidInputError, closest_hint

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".parquet", ".pq")


def is_list(name: str) -> bool:
    """Return whether a name is that of a list of paths."""
    return name.lower().endswith(LIST_SUFFIXES)


def read_paths(file: BinaryIO, name: str, column: str) -> Iterator[str]:
    """Yield the paths of a list, in its order; empty ones are left out.

    Args:
        file: its bytes.
        name: of the file; its suffix tells what it is.
        column: of a CSV or Parquet file; a text file has one path a line, and ``#`` begins a comment line.

    Raises:
        InvalidInputError: the file is not what its name says, or has no such column.
    """
    suffix = name.lower().rpartition(".")[2]
    if suffix == "txt":
        yield from _read_lines(file, name)
        return
    pa = require_arrow(f"reading {name}")
    try:
        batches = _read_parquet(file, column) if suffix in ("parquet", "pq") else _read_csv(file, suffix, column)
        for batch in batches:
            for path in batch.column(0).cast(pa.large_string()).to_pylist():
                if path and path.strip():
                    yield path
    except _NoColumn as exc:
        known = exc.args[0]
        raise InvalidInputError(
            f"{name} must have a column {column!r} with paths{closest_hint(column, known)}, found "
            f"{', '.join(known[:20]) or 'none'}; name it with --column",
            expected=column,
            actual=", ".join(known[:20]),
            path=name,
        ) from exc
    except (pa.ArrowException, ValueError) as exc:
        raise InvalidInputError(
            f"{name} must be a {suffix.upper()} file with a column of paths, failed to read it: "
            f"{' '.join(str(exc).split())}; save it as UTF-8 and try again",
            path=name,
        ) from exc


class _NoColumn(Exception):  # noqa: N818 - never leaves this module
    """The table has other columns; these are its argument."""


def _read_lines(file: BinaryIO, name: str) -> Iterator[str]:
    encoding = "utf-8-sig"
    try:
        for line in file:
            entry = line.decode(encoding).strip()
            encoding = "utf-8"
            if entry and not entry.startswith("#"):
                yield entry
    except UnicodeDecodeError as exc:
        raise InvalidInputError(
            f"{name} must be a UTF-8 text file with one path a line, failed to read it: {exc}; save it as UTF-8",
            path=name,
        ) from exc


def _read_csv(file: BinaryIO, suffix: str, column: str) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    delimiter = "\t" if suffix == "tsv" else ","
    start = file.tell()
    header = next(csv_lines([file.readline().decode("utf-8-sig")], delimiter=delimiter), [])
    if header and column not in header:
        raise _NoColumn(header)
    file.seek(start)
    parse = csv.ParseOptions(delimiter=delimiter)
    # A column of numbers is a column of names nevertheless: 007 is not 7.
    convert = csv.ConvertOptions(
        column_types={column: pa.string()}, include_columns=[column], strings_can_be_null=False
    )
    yield from csv.open_csv(file, parse_options=parse, convert_options=convert)


def _read_parquet(file: BinaryIO, column: str) -> Iterator[Any]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(file)
    if column not in table.schema_arrow.names:
        raise _NoColumn(table.schema_arrow.names)
    yield from table.iter_batches(columns=[column])
