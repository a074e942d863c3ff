"""What changed between the listing that a job was begun with and a new one, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from vision.batch.columns import IDENTITY_COLUMNS

if TYPE_CHECKING:
    from vision.batch.manifest import Manifest

Rows = tuple[tuple[Any, ...], ...]
_SIZE = IDENTITY_COLUMNS.index("size")
_STAMP = IDENTITY_COLUMNS.index("stamp")


def differences(old: Manifest, new: Manifest, limit: int = 5) -> list[str]:
    """Return lines that tell which inputs were added, removed and changed, with the first ``limit`` of each.

    Both are read side by side in their order, so memory does not grow with them. Parts of one video are one input.
    """
    added, removed, changed = _Examples("added", limit), _Examples("removed", limit), _Examples("changed", limit)
    before, after = _inputs(old), _inputs(new)
    left, right = next(before, None), next(after, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            assert left is not None
            removed.add(left[0])
            left = next(before, None)
        elif left is None or right[0] < left[0]:
            added.add(right[0])
            right = next(after, None)
        else:
            if left[1] != right[1]:
                changed.add(f"{left[0]}: {_describe(left[1], right[1])}")
            left, right = next(before, None), next(after, None)
    return [kind.line() for kind in (added, removed, changed) if kind.count]


class _Examples:
    """A count and the first of what is counted."""

    def __init__(self, word: str, limit: int) -> None:
        self.count = 0
        self._word = word
        self._limit = limit
        self._first: list[str] = []

    def add(self, example: str) -> None:
        self.count += 1
        if len(self._first) < self._limit:
            self._first.append(example)

    def line(self) -> str:
        inputs = "1 input was" if self.count == 1 else f"{self.count} inputs were"
        first = "" if self.count == 1 else "first " if self.count > self._limit else ""
        more = ", ..." if self.count > self._limit else ""
        return f"{inputs} {self._word}: {first}{'; '.join(self._first)}{more}"


def _inputs(manifest: Manifest) -> Iterator[tuple[str, Rows]]:
    """Yield each name with the identities of its items: several for the parts of a video."""
    rows = (
        row
        for block in manifest.blocks()
        for row in zip(*(block.column(name).to_pylist() for name in IDENTITY_COLUMNS), strict=True)
    )
    for name, group in groupby(rows, key=lambda row: str(row[0])):
        yield name, tuple(group)


def _describe(old: Rows, new: Rows) -> str:
    before, after = old[0], new[0]
    if before[_SIZE] != after[_SIZE]:
        return f"{_size(before[_SIZE])}, now {_size(after[_SIZE])}"
    if before[_STAMP] != after[_STAMP]:
        return "another time or version, of the same size"
    if len(old) != len(new):
        return f"a video in {len(old)} parts, now in {len(new)}"
    return "another place in its tar, or other frames"


def _size(size: int) -> str:
    return "an unknown size" if size < 0 else f"{size} bytes"
