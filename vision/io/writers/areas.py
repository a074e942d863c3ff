"""How much of each frame every class covers, as CSV: one row a class and frame."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, seconds_text
from vision.types import Frame, FrameResult

COLUMNS = ("frame_index", "timestamp_s", "source", "label", "class_name", "pixels", "share")


class AreaCsvWriter(Writer):
    """Writes the pixels and the share of the picture of each class; classes that do not occur have 0."""

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._output = AtomicFile(path, overwrite=overwrite)
        self._write(COLUMNS)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add the rows of one frame."""
        if result.segmentation is None:
            raise InvalidInputError("areas need a segmentation, got a result without one; run stride32 segment")
        names, labels = result.segmentation.class_names, result.segmentation.labels
        counts = np.bincount(labels.ravel(), minlength=len(names))
        start = (result.frame_index, seconds_text(result.timestamp_s), result.source)
        for label, (name, pixels) in enumerate(zip(names, counts.tolist(), strict=True)):
            self._write((*start, label, name, pixels, f"{pixels / max(labels.size, 1):.6f}"))

    def close(self) -> None:
        """Finish the file."""
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()

    def _write(self, row: tuple[object, ...]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(row)
        self._output.write(text.getvalue().encode())
