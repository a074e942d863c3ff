"""Events of counters as CSV or Parquet, and the writer that counts the tracks of a run as it passes.

One row an event, in the order in which events become certain; docs/analytics.md tells what the columns mean.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from vision.analytics.counting import Counting
from vision.analytics.events import Event
from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks, seconds_text
from vision.io.writers.parquet import require_pyarrow
from vision.types import Frame, FrameResult

COLUMNS = (
    "frame_index", "timestamp_s", "kind", "counter", "track_id", "label", "class_name", "direction", "dwell_s",
    "dwell_frames",
)  # fmt: skip
SUFFIXES = (".csv", ".parquet")


def check_events_path(path: Path) -> None:
    """Raise unless events can be written to a file of this name: .csv, or .parquet with pyarrow installed.

    Raises:
        InvalidInputError: another ending.
        MissingDependencyError: Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(
            f"a file of events must end in {' or '.join(SUFFIXES)}, got {path.name!r}; rename it",
            expected=" or ".join(SUFFIXES),
            actual=path.name,
            path=path,
        )
    if suffix == ".parquet":
        require_pyarrow()


class EventsFile:
    """A file of events under construction; CSV rows go to disk at once, Parquet is written when it is complete.

    Args:
        path: .csv or .parquet.
        counting: knows the names of the classes.
        overwrite: replace a file that exists.
    """

    def __init__(self, path: Path, counting: Counting, *, overwrite: bool = False) -> None:
        check_events_path(path)
        self._counting = counting
        self._is_csv = path.suffix.lower() == ".csv"
        self._waiting: list[tuple[Any, ...]] = []
        self._output = AtomicFile(path, overwrite=overwrite)
        if self._is_csv:
            self._write_line(COLUMNS)

    def add(self, events: Sequence[Event]) -> None:
        """Append events."""
        for event in events:
            row = (
                event.frame_index,
                event.timestamp_s,
                event.kind.value,
                event.counter,
                event.track_id,
                event.label,
                self._counting.name(event.label),
                event.direction,
                event.dwell_s,
                event.dwell_frames,
            )
            if self._is_csv:
                texts = {"timestamp_s": seconds_text(event.timestamp_s), "dwell_s": seconds_text(event.dwell_s)}
                self._write_line([texts.get(name, value) for name, value in zip(COLUMNS, row, strict=True)])
            else:
                self._waiting.append(row)
        if self._is_csv and events:
            # Events are few: whoever follows the .part file of a long run sees them at once.
            self._output.file.flush()

    def commit(self) -> None:
        """Finish the file and give it its name."""
        if not self._is_csv and self._output.is_open:
            _write_parquet(self._output, self._waiting)
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()

    def _write_line(self, row: Sequence[object]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(["" if value is None else value for value in row])
        self._output.write(text.getvalue().encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class CountFiles:
    """Where counts go, each None where it is not wanted: ``events`` (.csv or .parquet) and ``counts`` (.json)."""

    events: Path | None = None
    counts: Path | None = None


class CountWriter(Writer):
    """Counts the confirmed tracks seen in each frame; writes events as they happen and the totals at the end.

    Args:
        counting: fresh counters; its totals can be read after ``close``.
        files: outputs.
        source: recorded with the totals.
        overwrite: replace files that exist.
    """

    def __init__(self, counting: Counting, files: CountFiles, *, source: str = "", overwrite: bool = False) -> None:
        self.counting = counting
        self._source = source
        self._is_open = True
        self._counts = None if files.counts is None else AtomicFile(files.counts, overwrite=overwrite)
        try:
            self._events = None if files.events is None else EventsFile(files.events, counting, overwrite=overwrite)
        except BaseException:
            if self._counts is not None:
                self._counts.abort()
            raise

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Count the tracks of one frame."""
        if result.tracks is None:
            raise InvalidInputError("counters need tracks, got a result without; run track")
        tracks = reported_tracks(result.tracks)
        size_hw = frame.size_hw if frame is not None else result.size_hw
        self.add(
            self.counting.update(
                result.frame_index, result.timestamp_s, tracks.ids, tracks.boxes, tracks.labels, size_hw
            )
        )

    def add(self, events: Sequence[Event]) -> None:
        """Append events that were counted elsewhere, by the same counters."""
        if self._events is not None:
            self._events.add(events)

    def close(self) -> None:
        """End the open visits and finish the files."""
        if not self._is_open:
            return
        self._is_open = False
        self.add(self.counting.finish())
        if self._events is not None:
            self._events.commit()
        if self._counts is not None:
            plain = {"source": self._source, **self.counting.totals(), "spec": self.counting.spec.to_dict()}
            self._counts.write(orjson.dumps(plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            self._counts.commit()

    def abort(self) -> None:
        """Remove the unfinished files."""
        self._is_open = False
        for output in (self._events, self._counts):
            if output is not None:
                output.abort()


def _write_parquet(output: AtomicFile, rows: Sequence[tuple[Any, ...]]) -> None:
    """Write the rows as one Parquet table; unknown times are nulls."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole, seconds, text = pa.int64(), pa.float64(), pa.string()
    kinds = (whole, seconds, text, text, whole, whole, text, text, seconds, whole)
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    table = pa.table([pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)], names=list(COLUMNS))
    pq.write_table(table, output.file, compression="zstd")
