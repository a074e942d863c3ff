"""What the table formats (CSV, Parquet) share: names of columns, and a header put together from their cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from vision.errors import InvalidInputError, closest_hint
from vision.io.writers.tracks_header import TracksHeader, estimate_fps, names_by_label

BOX_COLUMNS = ("x1", "y1", "x2", "y2")
REQUIRED = ("frame_index", "track_id", *BOX_COLUMNS)
# A class index beyond this is a number in the wrong column, and names for all below it would fill the memory.
MOST_CLASSES = 65_536


def require_columns(names: Sequence[str], path: Path) -> None:
    """Raise InvalidInputError unless each required column is there, once."""
    for name in REQUIRED:
        if names.count(name) != 1:
            found = ", ".join(names) or "no columns"
            hint = closest_hint(name, names) if name not in names else ""
            raise InvalidInputError(
                f"{path} must have one column {name}, found {found}{hint}; rename the columns to {', '.join(REQUIRED)}",
                expected=", ".join(REQUIRED),
                actual=found,
                path=path,
            )


class ColumnFacts:
    """Collects, row by row, what the cells of a table say of its sequence.

    Attributes:
        sources: the different sources that rows name.
    """

    def __init__(self, path: Path) -> None:
        self.sources: set[str] = set()
        self._path = path
        self._names: dict[int, str] = {}
        self._times: dict[int, float] = {}

    def label_of(self, name: str) -> int:
        """Return the label of a class that has only a name: its place in the order of appearance."""
        for label, known in self._names.items():
            if known == name:
                return label
        self._names[len(self._names)] = name
        return len(self._names) - 1

    def name_labels(self, pairs: Iterable[tuple[float, str]]) -> None:
        """Remember the name of each label; raises InvalidInputError when one label has two."""
        for label, name in sorted(pairs):
            # Odd labels are refused with their line once all rows are there.
            if not 0 <= label < MOST_CLASSES:
                continue
            known = self._names.setdefault(int(label), name)
            if known != name:
                raise InvalidInputError(
                    f"{self._path} must give label {int(label)} one class_name, got {known!r} and {name!r}; correct it",
                    path=self._path,
                )

    def add_time(self, frame: float, timestamp_s: str | float | None) -> None:
        """Remember the time of a frame; what is no number is no time."""
        try:
            seconds = float(timestamp_s) if timestamp_s is not None else math.nan
        except ValueError:
            return
        if math.isfinite(seconds) and math.isfinite(frame):
            self._times[int(frame)] = seconds

    def header(self) -> TracksHeader:
        """Return the facts so far."""
        ends = sorted(self._times.items())
        return TracksHeader(
            class_names=names_by_label(self._names) if self._names else (),
            fps=estimate_fps(ends[0], ends[-1]) if ends else None,
            source=next(iter(self.sources)) if len(self.sources) == 1 else "",
        )
