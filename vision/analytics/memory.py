"""The rows that a counter keeps of each track that it has seen lately: one structured array, sorted by id."""

from __future__ import annotations

from typing import Any

import numpy as np

from vision.types import IntArray

Rows = np.ndarray[tuple[int], np.dtype[np.void]]


class TrackMemory:
    """A structured array with one row a track, found by id without a loop.

    Every row has ``id``, ``seen`` (frame of the last observation, -1 before the first), ``seen_s`` (its time, NaN if
    unknown) and ``label``; the counter adds its own columns.

    Args:
        columns: name -> (dtype, value of a new track) of the counter's own columns.
    """

    def __init__(self, columns: dict[str, tuple[type, Any]]) -> None:
        common: dict[str, tuple[type, Any]] = {
            "id": (np.int64, 0),
            "seen": (np.int64, -1),
            "seen_s": (np.float64, np.nan),
            "label": (np.int64, 0),
        }
        every = common | columns
        dtype = np.dtype([(name, kind) for name, (kind, _) in every.items()])
        self._fresh = np.array([tuple(value for _, value in every.values())], dtype)
        self.rows: Rows = self._fresh[:0].copy()
        # A column of the rows is strided; searching goes over a copy of its own.
        self._ids: IntArray = np.zeros(0, np.int64)

    def find(self, ids: IntArray) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Return the positions [M] of the tracks in ``rows``; unknown ids [M] get a new row, which moves the others."""
        at = np.searchsorted(self._ids, ids)
        is_new = at == len(self._ids)
        is_new[~is_new] = self._ids[at[~is_new]] != ids[~is_new]
        if not is_new.any():
            return at
        born = np.sort(ids[is_new])
        added = np.repeat(self._fresh, len(born))
        added["id"] = born
        is_later = not len(self._ids) or born[0] > self._ids[-1]
        self.rows = np.concatenate([self.rows, added])
        if not is_later:
            self.rows = self.rows[np.argsort(self.rows["id"])]
        self._ids = np.ascontiguousarray(self.rows["id"])
        return np.searchsorted(self._ids, ids)

    def expire(self, before: int) -> Rows:
        """Remove and return the rows of tracks that were last seen before the frame ``before``."""
        is_old = self.rows["seen"] < before
        if not is_old.any():
            return self.rows[:0]
        gone, self.rows = self.rows[is_old], self.rows[~is_old]
        self._ids = np.ascontiguousarray(self.rows["id"])
        return gone
