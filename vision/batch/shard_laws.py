"""What must hold of a shard's rows, checked before they are committed and again when a job is verified."""

from __future__ import annotations

from collections.abc import Collection

from vision.batch.items import Item, Shard
from vision.errors import StateError


class ShardLaws:
    """A shard has rows of its own items alone, each with its frames in order, and of each item rows or a failure.

    Attributes:
        items: of the shard, by their index.
        rows_of: how many rows each item has, those without left out.
        n_rows: of all items.
    """

    def __init__(self, shard: Shard) -> None:
        self.items: dict[int, Item] = {item.index: item for item in shard.items}
        self.rows_of: dict[int, int] = {}
        self.n_rows = 0
        self._index = shard.index
        self._last = (-1, -1)

    def add(self, item: int, frame: int) -> None:
        """Take note of a row; raises StateError when it may not come now."""
        known = self.items.get(item)
        if known is None or (item, frame) <= self._last or not _has_frame(known, frame):
            found = f"frame {frame} of item {item} after frame {self._last[1]} of item {self._last[0]}"
            raise StateError(
                f"shard {self._index} must get rows of its items in order, each once, got {found}; this is an error of "
                "Stride32, report it",
                actual=found,
            )
        self._last = (item, frame)
        self.rows_of[item] = self.rows_of.get(item, 0) + 1
        self.n_rows += 1

    def close(self, failed: Collection[int]) -> None:
        """Raise StateError when an item has neither rows nor is among those that failed."""
        lost = [item for item in self.items if item not in self.rows_of and item not in failed]
        if lost:
            found = f"{len(lost)} items with neither, item {lost[0]} among them"
            raise StateError(
                f"shard {self._index} must have rows or a failure of each item, got {found}; this is an error of "
                "Stride32, report it",
                actual=found,
            )


def _has_frame(item: Item, frame: int) -> bool:
    """Return whether a row of an item may have that frame index."""
    if item.frames is not None:
        return item.frames.start <= frame < item.frames.stop
    return frame >= 0 if item.kind == "video" else frame == 0
