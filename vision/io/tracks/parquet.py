"""Tracks as Parquet, which keeps them to the last bit; vision/io/writers/parquet.py has the schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from vision.errors import InvalidInputError
from vision.io.tracks.columns import BOX_COLUMNS, ColumnFacts, require_columns
from vision.io.tracks.rows import Rows, to_trajectories
from vision.io.writers.parquet import METADATA_KEY, ROW_GROUP, SCHEMA_VERSION, ParquetFile, require_pyarrow
from vision.io.writers.tracks_header import TracksHeader
from vision.tracking.trajectories import Trajectories

_OPTIONAL = ("label", "score", "filled")


def read_parquet_tracks(path: Path) -> tuple[Trajectories, TracksHeader]:
    """Return the tracks of a Parquet file: ours, or any with the columns that a CSV needs (as data frames write them).

    Without our metadata the header is put together from the cells, as for a CSV.

    Raises:
        InvalidInputError: names the file and row (from 0) of what does not fit.
        MissingDependencyError: pyarrow is not installed.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # By file object: a path would also be taken for a folder of parts, or for an address.
        with path.open("rb") as opened:
            file = pq.ParquetFile(opened)
            header = _read_header(file.metadata.metadata or {}, path)
            require_columns(file.schema_arrow.names, path)
            wanted = [*_number_names(file), *(["class_name", "source", "timestamp_s"] if header is None else [])]
            table = file.read([name for name in wanted if name in file.schema_arrow.names])
    except (OSError, pa.ArrowException) as exc:
        if isinstance(exc, OSError) and exc.strerror:
            raise InvalidInputError(f"{path} cannot be read: {exc.strerror}; check the path", path=path) from exc
        # pyarrow gives several lines; the first says what is wrong.
        reason = str(exc).partition("\n")[0]
        raise InvalidInputError(
            f"{path} must be a Parquet file, failed to read it: {reason}; it may be cut short", path=path
        ) from exc
    columns = {name: _numbers(table, name, path) for name in _number_names(file)}
    facts = ColumnFacts(path)
    if header is None and "class_name" in table.column_names:
        _name_classes(table, columns, facts)
    rows = Rows(
        frames=columns["frame_index"],
        ids=columns["track_id"],
        boxes=np.stack([columns[name] for name in BOX_COLUMNS], axis=1),
        scores=columns.get("score"),
        labels=columns.get("label"),
        filled=columns.get("filled"),
    )
    trajectories = to_trajectories(rows, lambda row: f"{path} row {row}")
    return trajectories, header or _header_of_cells(table, columns["frame_index"], facts)


def write_parquet_tracks(
    trajectories: Trajectories, path: Path, *, header: TracksHeader | None = None, overwrite: bool = False
) -> None:
    """Write all of the tracks and the header; times are ``frame_index / fps`` where the frame rate is known."""
    header = header or TracksHeader()
    output = ParquetFile(path, class_names=header.class_names, overwrite=overwrite)
    try:
        for start in range(0, len(trajectories), ROW_GROUP):
            part = trajectories[start : start + ROW_GROUP]
            output.add(
                {"boxes": part.boxes, "scores": part.scores, "labels": part.labels},
                frames=part.frames,
                source=header.source,
                timestamps_s=None if header.fps is None else part.frames / header.fps,
                track_ids=part.ids,
                filled=part.filled,
            )
        output.commit(header)
    except BaseException:
        output.abort()
        raise


def _number_names(file: Any) -> list[str]:
    names = file.schema_arrow.names
    return ["frame_index", "track_id", *BOX_COLUMNS, *(name for name in _OPTIONAL if name in names)]


def _read_header(metadata: dict[bytes, bytes], path: Path) -> TracksHeader | None:
    """Return what our metadata says, or None for a file that is not ours."""
    text = metadata.get(METADATA_KEY.encode())
    if text is None:
        return None
    try:
        facts = orjson.loads(text)
        version = facts["version"]
        if version != SCHEMA_VERSION:
            raise InvalidInputError(
                f"{path} must have version {SCHEMA_VERSION} of the schema, found {version}; "
                "read it with the newer stride32 that wrote it",
                path=path,
            )
        return TracksHeader(
            class_names=tuple(str(name) for name in facts["class_names"]),
            fps=facts["fps"],
            source=str(facts["source"]),
            size_hw=None if facts["size_hw"] is None else (int(facts["size_hw"][0]), int(facts["size_hw"][1])),
            frame_count=facts["frame_count"],
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError) as exc:
        raise InvalidInputError(
            f"{path} must have our JSON in its metadata {METADATA_KEY}, failed at {exc!r}; write the file again",
            path=path,
        ) from exc


def _numbers(table: Any, name: str, path: Path) -> Any:
    """Return a column as numpy, or raise when it holds nulls or no numbers."""
    import pyarrow as pa

    column = table.column(name)
    if name == "track_id" and column.null_count:
        raise InvalidInputError(
            f"{path} must have a track_id in each row, found {column.null_count} nulls; these are detections: make the "
            "file with stride32 track",
            path=path,
        )
    kinds = pa.types.is_boolean if name == "filled" else _is_number
    if column.null_count or not (kinds(column.type) or len(column) == 0):
        raise InvalidInputError(
            f"{path} must have a number in each row of {name}, found {column.type} with {column.null_count} nulls; "
            "convert the column",
            path=path,
        )
    return column.to_numpy() if len(column) else np.zeros(0, np.bool_ if name == "filled" else np.float64)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _name_classes(table: Any, columns: dict[str, Any], facts: ColumnFacts) -> None:
    """Give the labels of a foreign file their names; without labels the names make them."""
    names = table.column("class_name").to_pylist()
    if "label" in columns:
        facts.name_labels({(label, str(name)) for label, name in zip(columns["label"].tolist(), names, strict=True)})
    else:
        columns["label"] = np.array([facts.label_of(str(name)) for name in names], np.int64)


def _header_of_cells(table: Any, frames: Any, facts: ColumnFacts) -> TracksHeader:
    if "source" in table.column_names:
        facts.sources |= {str(source) for source in table.column("source").unique().to_pylist()}
    if "timestamp_s" in table.column_names and len(frames):
        for row in (int(np.argmin(frames)), int(np.argmax(frames))):
            time_s = table.column("timestamp_s")[row].as_py()
            facts.add_time(float(frames[row]), time_s if isinstance(time_s, float) else None)
    return facts.header()
