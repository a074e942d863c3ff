"""CSV for spreadsheets and data frames: one row a track or detection in each frame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, class_name, reported_tracks, seconds_text
from vision.types import Detections, Frame, FrameResult, Tracks

COLUMNS = (
    "frame_index", "timestamp_s", "source", "track_id", "label", "class_name", "score", "x1", "y1", "x2", "y2",
)  # fmt: skip


class CsvWriter(Writer):
    """Writes confirmed tracks matched in the frame, or detections (track_id empty) when no tracker ran."""

    def __init__(self, path: str | Path, *, class_names: Sequence[str] = (), overwrite: bool = False) -> None:
        self._class_names = tuple(class_names)
        self._output = AtomicFile(path, overwrite=overwrite)
        self._write_row(COLUMNS)

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
            self._write_row((*start, track_id, label, class_name(self._class_names, label), f"{score:.4f}", *corners))

    def close(self) -> None:
        """Finish the file."""
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()

    def _write_row(self, row: Sequence[object]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row)
        self._output.write(text.getvalue().encode())
