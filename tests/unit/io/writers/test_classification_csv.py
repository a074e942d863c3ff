"""Rows of classes and of values, and results that are neither."""

import csv

import numpy as np
import pytest

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.writers.csv import CLASS_COLUMNS, VALUE_COLUMNS, ClassificationCsvWriter
from vision.types import Classification, FrameResult

CLASSES = Classification(np.array([4, 1, 0]), np.float32([0.7, 0.6, 0.1]), ("a, b", "c", "d"), assigned=2)
VALUE = Classification(np.zeros(0, np.int64), np.zeros(0, np.float32), value=-2.5, unit="°C")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_row_a_class(tmp_path):
    path = tmp_path / "o.csv"
    with ClassificationCsvWriter(path, measures=False) as writer:
        writer.write(None, FrameResult(3, timestamp_s=1.25, source="x.png", classification=CLASSES))
        writer.write(None, FrameResult(4, classification=CLASSES.top(0)))
    rows = read(path)
    assert tuple(rows[0]) == CLASS_COLUMNS
    assert [row["class_name"] for row in rows] == ["a, b", "c", "d"]
    assert [row["assigned"] for row in rows] == ["1", "1", "0"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["frame_index"], rows[0]["timestamp_s"], rows[0]["score"]) == ("3", "1.250", "0.7000")


def test_one_row_a_value(tmp_path):
    path = tmp_path / "o.csv"
    with ClassificationCsvWriter(path, measures=True) as writer:
        writer.write(None, FrameResult(0, source="x.png", classification=VALUE))
    (row,) = read(path)
    assert tuple(row) == VALUE_COLUMNS
    assert (row["value"], row["unit"]) == ("-2.5", "°C")


def test_results_without_a_classification_are_refused(tmp_path):
    with (
        pytest.raises(InvalidInputError, match="run classify"),
        ClassificationCsvWriter(tmp_path / "o.csv", measures=False) as writer,
    ):
        writer.write(None, FrameResult(0))


def test_existing_files_are_kept_and_aborted_ones_vanish(tmp_path):
    path = tmp_path / "o.csv"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        ClassificationCsvWriter(path, measures=False)
    writer = ClassificationCsvWriter(path, measures=False, overwrite=True)
    writer.abort()
    assert path.read_text() == "mine"
    assert [item.name for item in tmp_path.iterdir()] == ["o.csv"]
