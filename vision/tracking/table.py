"""All live tracks of one tracker as parallel arrays; the tracker's whole memory besides the gallery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError

Rows = npt.NDArray[np.intp]

COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "ids": (np.int64, ()),
    "labels": (np.int64, ()),
    "scores": (np.float32, ()),
    "ages": (np.int64, ()),
    "hits": (np.int64, ()),
    "time_since_update": (np.int64, ()),
    "confirmed": (np.bool_, ()),
    "mean": (np.float64, (8,)),
    "covariance": (np.float64, (3, 4)),
    "unseen_s": (np.float64, ()),
}

DIRECTION_FRAMES = 3
"""Observations over which a track's direction is taken (OC-SORT, section 4: delta t = 3)."""

OBSERVATION_COLUMNS: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
    "observed": (np.float64, (4,)),
    "past": (np.float64, (DIRECTION_FRAMES, 2)),
    "anchor_mean": (np.float64, (8,)),
    "anchor_covariance": (np.float64, (3, 4)),
}
"""What only trackers need that look back at observations: the last box (cx, cy, a, h), the centres of the last few,
and the filter's state after the last correction."""

FIRST_CAPACITY = 64


class TrackTable:
    """Columns with one row a track; capacity doubles, deleted rows are filled from the end.

    ``table[name]`` is a writable view [M, ...] of the live rows, valid until the next append or remove. Rows are in no
    particular order: order by id where it matters.

    Args:
        observations: keep ``OBSERVATION_COLUMNS`` as well.
    """

    def __init__(self, *, observations: bool = False) -> None:
        self._length = 0
        self.layout = {**COLUMNS, **OBSERVATION_COLUMNS} if observations else COLUMNS
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros((FIRST_CAPACITY, *shape), dtype) for name, (dtype, shape) in self.layout.items()
        }

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name][: self._length]

    def __setitem__(self, name: str, values: npt.NDArray[Any] | float) -> None:
        self._columns[name][: self._length] = values

    @classmethod
    def from_columns(cls, columns: Mapping[str, npt.NDArray[Any]], *, observations: bool = False) -> Self:
        """Return a table with copies of ``columns``; raises InvalidInputError unless they fit the layout."""
        count = len(columns.get("ids", ()))
        table = cls(observations=observations)
        rows = table.append(count)
        for name, (dtype, shape) in table.layout.items():
            found = columns.get(name)
            if found is None or found.shape != (count, *shape) or found.dtype != dtype:
                actual = "nothing" if found is None else f"{found.dtype} {found.shape}"
                raise InvalidInputError(
                    f"tracker state needs {name} as {np.dtype(dtype)} {(count, *shape)}, got {actual}; save it again"
                )
            if found.dtype.kind == "f" and not np.isfinite(found).all():
                raise InvalidInputError(f"tracker state needs finite {name}, got NaN or infinity; save it again")
            table[name][rows] = found
        ids = table["ids"]
        if count and (ids.min() < 1 or len(np.unique(ids)) < count):
            raise InvalidInputError(f"tracker state needs ids of their own from 1, got {ids.tolist()}; save it again")
        return table

    @property
    def capacity(self) -> int:
        """Rows that fit without growing."""
        return len(self._columns["ids"])

    def append(self, count: int) -> Rows:
        """Add ``count`` zeroed rows and return their numbers."""
        needed = self._length + count
        if not count:
            return np.zeros(0, np.intp)
        if needed > self.capacity:
            capacity = max(2 * self.capacity, needed)
            for name, column in self._columns.items():
                grown = np.zeros((capacity, *column.shape[1:]), column.dtype)
                grown[: self._length] = column[: self._length]
                self._columns[name] = grown
        rows = np.arange(self._length, needed)
        self._length = needed
        for column in self._columns.values():
            column[rows] = 0
        return rows

    def remove(self, rows: Rows) -> tuple[Rows, Rows]:
        """Delete ``rows`` and return (sources, targets): which rows were moved from the end into the gaps."""
        remaining = self._length - len(rows)
        kept = np.ones(self._length, bool)
        kept[rows] = False
        targets = np.flatnonzero(~kept[:remaining])
        sources = remaining + np.flatnonzero(kept[remaining:])
        for column in self._columns.values():
            column[targets] = column[sources]
        self._length = remaining
        return sources, targets
