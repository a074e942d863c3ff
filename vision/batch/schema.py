"""Rows as the core makes them to Parquet's columns: version 1 of the schema, in docs/batch-schema.md.

A column is never renamed or given another meaning within a version; new ones may follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.batch.config import Task
from vision.errors import MissingDependencyError, StateError

SCHEMA_VERSION = 1

Column = npt.NDArray[Any]


def require_pyarrow() -> None:
    """Raise MissingDependencyError when pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as exc:
        raise MissingDependencyError("pyarrow", extra="batch", purpose="a batch job") from exc


def arrow_schema(task: Task, dim: int = 0, *, regression: bool = False) -> Any:
    """Return the columns of a task as a ``pyarrow.Schema``; all but ``timestamp_s`` are there in each row.

    Args:
        task: of the job.
        dim: dimensions of an embedding; other tasks have none.
        regression: for classify, whether the model measures a value in place of naming classes.
    """
    require_pyarrow()
    import pyarrow as pa

    def items(kind: Any, size: int = -1) -> Any:
        return pa.list_(pa.field("element", kind, nullable=False), size)

    boxes = {"boxes": items(items(pa.float32(), 4)), "scores": items(pa.float32()), "labels": items(pa.int32())}
    mask = {"label": pa.int32(), "name": pa.string(), "area": pa.int64(), "counts": items(pa.int32())}
    classes = {"labels": items(pa.int32()), "scores": items(pa.float32()), "names": items(pa.string())}
    own: dict[Task, dict[str, Any]] = {
        "detect": {**boxes, "names": items(pa.string())},
        "track": {**boxes, "names": items(pa.string()), "track_ids": items(pa.int64())},
        "segment": {"masks": items(pa.struct([pa.field(name, kind, nullable=False) for name, kind in mask.items()]))},
        "embed": {"embedding": items(pa.float32(), dim)},
        "classify": {"value": pa.float64(), "unit": pa.string()} if regression else {**classes, "assigned": pa.int32()},
    }
    head = {
        "item": pa.int64(),
        "path": pa.string(),
        "frame_index": pa.int32(),
        "timestamp_s": pa.float64(),
        "height": pa.int32(),
        "width": pa.int32(),
    }
    fields = {**head, **own[task]}
    return pa.schema([pa.field(name, kind, nullable=name == "timestamp_s") for name, kind in fields.items()])


def to_record_batch(schema: Any, rows: Sequence[Mapping[str, Any]], class_names: Sequence[str] = ()) -> Any:
    """Return the core's rows as a ``pyarrow.RecordBatch`` of ``schema``; a label without a name is its number.

    Raises:
        StateError: a row lacks a field, or holds what the column cannot, a number that is not finite among it. The core
            lets no such row out.
    """
    import pyarrow as pa

    try:
        columns = [_column(schema, field, rows, class_names) for field in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException) as exc:
        first = f"item {rows[0].get('item')} and those after it" if rows else "no rows"
        raise StateError(
            f"rows must have the columns {', '.join(schema.names)} with values that fit them, failed at {exc!r} in "
            f"{first}; this is an error of Stride32, report it"
        ) from exc


def _column(schema: Any, field: Any, rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Any:
    if field.name == "boxes":
        return _lists(field, rows, (4,))
    if field.name in ("scores", "labels", "track_ids"):
        return _lists(field, rows)
    if field.name == "names":
        is_own = "assigned" in schema.names
        return _own_names(field, rows) if is_own else _label_names(field, rows, class_names)
    if field.name == "masks":
        return _masks(field, rows, class_names)
    if field.name == "embedding":
        parts = [np.asarray(row["embedding"])[None] for row in rows]
        return _values(parts, field.type, (field.type.list_size,))
    return _scalars([row[field.name] for row in rows], field.type, is_optional=field.nullable)


def _scalars(values: Sequence[Any], kind: Any, *, is_optional: bool) -> Any:
    import pyarrow as pa

    if not is_optional and None in values:
        raise ValueError("no value where each row must have one")
    if pa.types.is_floating(kind):
        _check_finite(np.array([value for value in values if value is not None], np.float64))
    return pa.array(values, kind)


def _lists(field: Any, rows: Sequence[Mapping[str, Any]], shape: tuple[int, ...] = ()) -> Any:
    """Return a column of lists; their values are one array, of which each row has a run."""
    parts = [np.asarray(row[field.name]) for row in rows]
    return _list_array([len(part) for part in parts], _values(parts, field.type.value_type, shape), field.type)


def _values(parts: Sequence[Column], kind: Any, shape: tuple[int, ...] = ()) -> Any:
    """Return arrays one behind the other as an Arrow array."""
    import pyarrow as pa

    for part in parts:
        if part.shape[1:] != shape and part.size:
            raise ValueError(f"an array of the shape {part.shape}, expected [N, {', '.join(map(str, shape))}]")
    flat = np.concatenate([part.reshape(-1) for part in parts]) if parts else np.zeros(0)
    leaf = kind.value_type if shape else kind
    if pa.types.is_floating(leaf):
        flat = flat.astype(np.float32)
        _check_finite(flat)
    elif not flat.size:
        flat = flat.astype(np.int64)
    values = pa.array(flat, leaf)
    return pa.FixedSizeListArray.from_arrays(values, type=kind) if shape else values


def _list_array(lengths: Sequence[int], values: Any, kind: Any) -> Any:
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] != len(values):
        raise ValueError(f"{len(values)} values for lists of {offsets[-1]} together")
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)


def _own_names(field: Any, rows: Sequence[Mapping[str, Any]]) -> Any:
    import pyarrow as pa

    names = [name for row in rows for name in row["names"]]
    return _list_array([len(row["names"]) for row in rows], pa.array(names, pa.string()), field.type)


def _label_names(field: Any, rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Any:
    parts = [np.asarray(row["labels"]) for row in rows]
    return _list_array([len(part) for part in parts], _names_of(parts, class_names), field.type)


def _names_of(parts: Sequence[Column], class_names: Sequence[str]) -> Any:
    import pyarrow as pa

    labels = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    present, places = np.unique(labels, return_inverse=True)
    words = [class_names[label] if 0 <= label < len(class_names) else str(label) for label in present.tolist()]
    return pa.array(words, pa.string()).take(pa.array(places.reshape(-1), pa.int64()))


def _masks(field: Any, rows: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Any:
    import pyarrow as pa

    struct = field.type.value_type
    labels, areas = ([np.asarray(row[name]) for row in rows] for name in ("mask_labels", "mask_areas"))
    runs = [np.asarray(counts) for row in rows for counts in row["mask_counts"]]
    counts = struct.field("counts").type
    fields = [
        _values(labels, pa.int32()),
        _names_of(labels, class_names),
        _values(areas, pa.int64()),
        _list_array([len(each) for each in runs], _values(runs, counts.value_type), counts),
    ]
    masks = pa.StructArray.from_arrays(fields, fields=list(struct))
    return _list_array([len(row["mask_counts"]) for row in rows], masks, field.type)


def _check_finite(values: Column) -> None:
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
