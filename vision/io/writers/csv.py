"""CSV for spreadsheets and data frames: one row a track, detection or class in each frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, class_name, reported_tracks, seconds_text
from vision.types import Classification, Detections, Frame, FrameResult, Tracks

CLASS_COLUMNS = (
    "frame_index", "timestamp_s", "source", "rank", "label", "class_name", "score", "assigned",
)  # fmt: skip
VALUE_COLUMNS = ("frame_index", "timestamp_s", "source", "value", "unit")
COLUMNS = (
    "frame_index", "timestamp_s", "source", "track_id", "label", "class_name", "score", "x1", "y1", "x2", "y2",
)  # fmt: skip


class CsvWriter(Writer):
    """Writes confirmed tracks matched in the frame, or detections (track_id empty) when no tracker ran."""

    def __init__(self, path: str | Path, *, class_names: Sequence[str] = (), overwrite: bool = False) -> None:
        self._class_names = tuple(class_names)
        self._output = AtomicFile(path, overwrite=overwrite)
        _write_row(self._output, COLUMNS)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the rows of one frame."""
        objects: Tracks | Detections
        if result.tracks is not None:
            objects = reported_tracks(result.tracks)
            ids: Sequence[object] = objects.ids.tolist()
        elif result.detections is not None:
            objects = result.detections
            ids = [""] * len(objects)
        else:
            raise InvalidInputError(
                "a CSV file needs tracks or detections, got a result with neither; run track or detect"
            )
        start = (result.frame_index, seconds_text(result.timestamp_s), result.source)
        rows = zip(ids, objects.labels.tolist(), objects.scores.tolist(), objects.boxes.tolist(), strict=True)
        for track_id, label, score, box in rows:
            corners = (f"{value:.2f}" for value in box)
            name = class_name(self._class_names, label)
            _write_row(self._output, (*start, track_id, label, name, f"{score:.4f}", *corners))

    def close(self) -> None:
        """Finish the file."""
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()


class ClassificationCsvWriter(Writer):
    """Writes the reported classes of each frame, surest first, or its value when the classifier has no classes.

    Args:
        path: output file.
        measures: whether the classifier gives a value; decides the columns.
        overwrite: replace a file that exists.
    """

    def __init__(self, path: str | Path, *, measures: bool, overwrite: bool = False) -> None:
        self._output = AtomicFile(path, overwrite=overwrite)
        _write_row(self._output, VALUE_COLUMNS if measures else CLASS_COLUMNS)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the rows of one frame."""
        found = result.classification
        if found is None:
            raise InvalidInputError("a CSV file of classes needs a classification, got a result without; run classify")
        start = (result.frame_index, seconds_text(result.timestamp_s), result.source)
        for row in _classification_rows(found):
            _write_row(self._output, (*start, *row))

    def close(self) -> None:
        """Finish the file."""
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()


def _classification_rows(found: Classification) -> list[tuple[object, ...]]:
    if found.value is not None:
        return [(f"{found.value:.6g}", found.unit)]
    columns = zip(found.labels.tolist(), found.names, found.scores.tolist(), strict=True)
    return [
        (rank, label, name, f"{score:.4f}", int(rank <= found.assigned))
        for rank, (label, name, score) in enumerate(columns, start=1)
    ]


def _write_row(output: AtomicFile, row: Sequence[object]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    output.write(text.getvalue().encode())
