"""Checks that the value types run at construction; each message says what was expected, found and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError

# Width times height of the largest picture that is decoded unless a caller allows more, and of any that results state.
MAX_PIXELS = 100_000_000


def describe(value: object) -> str:
    """Return dtype and shape of an array, or the type's name."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def as_boxes(value: object) -> npt.NDArray[np.float32]:
    """Return float32 [N, 4] or raise; an empty array of any shape counts as no boxes."""
    boxes = _as_float32(value)
    if boxes.size == 0:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        hint = "transpose, or pass boxes.T" if boxes.shape[0] == 4 else "pass one row of x1, y1, x2, y2 an object"
        raise InvalidInputError(f"boxes must be float [N, 4] xyxy, got {boxes.shape}; {hint}")
    if not np.isfinite(boxes).all():
        row = int(np.flatnonzero(~np.isfinite(boxes).all(axis=1))[0])
        raise InvalidInputError(f"boxes must be finite, got {boxes[row].tolist()} in row {row}; drop such rows first")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        row = int(np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))[0])
        raise InvalidInputError(
            f"boxes must be xyxy with x1 <= x2 and y1 <= y2, got {boxes[row].tolist()} in row {row}; "
            "convert with vision.geometry.boxes (xywh_to_xyxy, cxcywh_to_xyxy)"
        )
    return boxes


def as_column(name: str, value: object, dtype: type[np.generic], length: int) -> Any:
    """Return a [N] array of the given dtype, N as the boxes have, all finite; or raise."""
    column = np.asarray(value)
    if column.dtype == dtype and column.shape == (length,) and column.dtype.kind != "f":
        return column
    if column.shape != (length,) and not (column.size == 0 and length == 0):
        raise InvalidInputError(
            f"{name} must be [N] with one entry a box (N={length}), got {column.shape}; filter both alike"
        )
    if column.dtype.kind == "f":
        column = _as_float32(column) if dtype is np.float32 else column
        if not np.isfinite(column).all():
            wrong = column[~np.isfinite(column)][0]
            raise InvalidInputError(f"{name} must be finite, got {wrong}; drop such rows first")
    return column.astype(dtype, copy=False).reshape(length)


def as_embeddings(value: object, length: int) -> npt.NDArray[np.float32]:
    """Return float32 [N, D] or raise; unit norm is the embedder's promise and is checked by the tracker."""
    embeddings = _as_float32(value)
    if embeddings.ndim != 2 or len(embeddings) != length:
        raise InvalidInputError(
            f"embeddings must be float [N, D] with N={length}, got {embeddings.shape}; one row a box"
        )
    if not np.isfinite(embeddings).all():
        raise InvalidInputError("embeddings must be finite, got NaN or infinity; check the embedder's input crops")
    return embeddings


def _as_float32(value: object) -> npt.NDArray[np.float32]:
    """Return float32; what is too large for it becomes infinite, without a warning, for callers refuse that."""
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype=np.float32)
