"""A CSV table that says of each picture which labels it has, or which value: columns, cells, and what is wrong."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vision.classification.config import Task
from vision.errors import InvalidInputError, closest_hint
from vision.io.listing import natural_key

FILE_COLUMN = "file"
LABEL_COLUMNS = ("label", "labels")
VALUE_COLUMN = "value"
SEPARATOR = ";"
EXAMPLES: dict[Task, str] = {
    "multiclass": "file,label",
    "multilabel": "file,labels (cat;dog) or a column of 0 and 1 for each label",
    "regression": "file,value",
}


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One picture and what is said of it.

    Attributes:
        path: where the picture is looked for.
        place: where it is said, for messages: "labels.csv line 7" or the class folder.
        names: the classes it has, one for a multiclass task.
        value: the number of a regression, NaN for others.
    """

    path: Path
    place: str
    names: tuple[str, ...] = ()
    value: float = math.nan


@dataclass(frozen=True, slots=True)
class LabelFile:
    """All rows of one folder or table, and the class names in label order (empty for a regression)."""

    rows: tuple[LabelRow, ...]
    class_names: tuple[str, ...]


def read_table(path: Path, task: Task) -> LabelFile:
    """Return the rows of a CSV file whose first line names the columns; paths are relative to the file.

    Raises:
        InvalidInputError: columns or a cell cannot be used; names the line and the remedy.
    """
    header, lines = _read_lines(path, task)
    columns = {name: index for index, name in enumerate(header)}
    if task == "regression":
        return LabelFile(tuple(_rows(path, lines, columns, _value_reader(path, header))), ())
    labels = next((columns[name] for name in LABEL_COLUMNS if name in columns), None)
    if task == "multilabel" and labels is None:
        names = tuple(name for name in header if name != FILE_COLUMN)
        return LabelFile(tuple(_rows(path, lines, columns, _flag_reader(header))), names)
    if labels is None:
        raise _wrong_columns(path, task, header)
    rows = tuple(_rows(path, lines, columns, _name_reader(labels, several=task == "multilabel")))
    found = {name for row in rows for name in row.names}
    return LabelFile(rows, tuple(sorted(found, key=lambda name: natural_key(Path(name)))))


def _read_lines(path: Path, task: Task) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the column names, and the line number and cells of each row that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(
            f"{path} must be a CSV table in UTF-8, reading failed: {exc}; save it as UTF-8", path=path
        ) from exc
    reader = csv.reader(io.StringIO(text, newline=""))
    lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    if not lines:
        raise InvalidInputError(
            f"{path} must be a CSV table with columns {EXAMPLES[task]}, got an empty file", path=path
        )
    header = lines[0][1]
    if FILE_COLUMN not in header or len(header) < 2 or len(set(header)) < len(header):
        raise _wrong_columns(path, task, header)
    if len(lines) == 1:
        raise InvalidInputError(
            f"{path} must have rows below its column names, got none; add a row a picture", path=path
        )
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise InvalidInputError(
                f"{path} line {number} must have {len(header)} cells as its first line has, got {len(cells)}; "
                f"put texts with commas in quotes, and separate labels by {SEPARATOR}",
                path=path,
            )
    return header, lines[1:]


def _wrong_columns(path: Path, task: Task, header: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"the first line of {path} must name the columns {EXAMPLES[task]}, got {','.join(header)}"
        f"{closest_hint(FILE_COLUMN, header) if FILE_COLUMN not in header else ''}; correct it, or choose another task",
        expected=EXAMPLES[task],
        actual=",".join(header),
        path=path,
    )


Reading = tuple[tuple[str, ...], float]
Reader = Callable[[str, list[str]], Reading]


def _rows(
    path: Path, lines: Sequence[tuple[int, list[str]]], columns: dict[str, int], read: Reader
) -> Iterator[LabelRow]:
    """Yield one row a picture; the same picture with another label is an error, a mere repetition counts once."""
    seen: dict[str, tuple[str, str]] = {}
    for number, cells in lines:
        place, name = f"{path} line {number}", cells[columns[FILE_COLUMN]]
        if not name:
            raise InvalidInputError(
                f"{place} must name a picture, got an empty cell; fill it or delete the line", path=path
            )
        names, value = read(place, cells)
        said = repr((names, value))
        if name in seen:
            before, place_before = seen[name]
            if before != said:
                raise InvalidInputError(
                    f"{place} must not contradict {place_before.rpartition(' line ')[2]}, which says otherwise of "
                    f"{name}; delete one of the lines",
                    path=path,
                )
            continue
        seen[name] = said, place
        yield LabelRow(path.parent / name, place, names, value)


def _name_reader(column: int, *, several: bool) -> Reader:
    def read(place: str, cells: list[str]) -> Reading:
        names = tuple(dict.fromkeys(name.strip() for name in cells[column].split(SEPARATOR) if name.strip()))
        if not several and len(names) != 1:
            raise InvalidInputError(
                f"{place} must have one label, got {cells[column]!r}; correct it, or choose task=multilabel"
            )
        return names, math.nan

    return read


def _flag_reader(header: Sequence[str]) -> Reader:
    def read(place: str, cells: list[str]) -> Reading:
        names = []
        for name, cell in zip(header, cells, strict=True):
            if name == FILE_COLUMN:
                continue
            if cell not in ("0", "1"):
                raise InvalidInputError(
                    f"{place} must have 0 or 1 in the column {name}, got {cell!r}; correct it, or use the columns "
                    f"file,labels with labels separated by {SEPARATOR}"
                )
            names += [name] * (cell == "1")
        return tuple(names), math.nan

    return read


def _value_reader(path: Path, header: Sequence[str]) -> Reader:
    others = [name for name in header if name != FILE_COLUMN]
    if VALUE_COLUMN not in others and len(others) > 1:
        raise _wrong_columns(path, "regression", header)
    column = list(header).index(VALUE_COLUMN if VALUE_COLUMN in others else others[0])

    def read(place: str, cells: list[str]) -> Reading:
        try:
            value = float(cells[column])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InvalidInputError(
                f"{place} must have a finite number in the column {header[column]}, got {cells[column]!r}; correct it "
                "or delete the line"
            )
        return (), value

    return read
