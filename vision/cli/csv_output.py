"""The table of a command as CSV: what a row is depends on what the run finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vision.cli.outputs import RunFacts
    from vision.io.writers.base import Writer


def build_csv(path: Path, run: RunFacts, *, overwrite: bool) -> Writer:
    """Return the CSV writer: a row for each class of a segmentation, each frame's classes, or each box."""
    if run.segments:
        from vision.io.writers.areas import AreaCsvWriter

        return AreaCsvWriter(path, overwrite=overwrite)
    if run.classifies:
        from vision.io.writers.csv import ClassificationCsvWriter

        return ClassificationCsvWriter(path, measures=not run.class_names, overwrite=overwrite)
    from vision.io.writers.csv import CsvWriter

    return CsvWriter(path, class_names=run.class_names, overwrite=overwrite)
