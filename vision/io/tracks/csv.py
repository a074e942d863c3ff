"""Tracks as CSV: the columns of ``stride32 track --csv``, and one more that says which rows were filled in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.io.tracks.columns import BOX_COLUMNS, ColumnFacts, require_columns
from vision.io.tracks.rows import Rows, to_trajectories
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.csv import COLUMNS as WRITER_COLUMNS
from vision.io.writers.tracks_header import TracksHeader
from vision.tracking.trajectories import Trajectories

COLUMNS = (*WRITER_COLUMNS, "filled")
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "": 0}
_CHUNK = 20_000  # rows held as text at a time: text takes ten times the room of numbers
_NUMBERS = ("frame_index", "track_id", "label", "score", *BOX_COLUMNS, "filled")


def read_csv_tracks(path: Path) -> tuple[Trajectories, TracksHeader]:
    """Return the tracks of a CSV file with a row of column names; their order is free, others are left out.

    ``frame_index``, ``track_id``, ``x1``, ``y1``, ``x2``, ``y2`` must be there. Without ``label`` labels count the
    ``class_name`` in order of appearance, or are 0; a missing ``score`` is 1. The frame rate is estimated from
    ``timestamp_s``, and the source is known when all rows name the same.

    Raises:
        InvalidInputError: names the file and line of what does not fit.
    """
    facts = ColumnFacts(path)
    parts: list[dict[str, npt.NDArray[np.float64]]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            names = [name.strip() for name in next(reader, [])]
            require_columns(names, path)
            start = 0
            while chunk := [row for row in islice(reader, _CHUNK) if row]:
                parts.append(_parse_chunk(chunk, names, path, start, facts))
                start += len(chunk)
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise InvalidInputError(f"{path} must be a CSV file, failed to read it: {reason}; check it", path=path) from exc
    if not parts:
        return Trajectories.empty(), facts.header()
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = Rows(
        frames=columns["frame_index"],
        ids=columns["track_id"],
        boxes=np.stack([columns[name] for name in BOX_COLUMNS], axis=1),
        scores=columns.get("score"),
        labels=columns.get("label"),
        filled=columns.get("filled"),
    )
    return to_trajectories(rows, lambda row: _place(path, row)), facts.header()


def write_csv_tracks(
    trajectories: Trajectories, path: Path, *, header: TracksHeader | None = None, overwrite: bool = False
) -> None:
    """Write one row a track and frame: coordinates to 0.01 pixels, scores to 0.0001, times where ``fps`` is known."""
    output = AtomicFile(path, overwrite=overwrite)
    try:
        output.write((",".join(COLUMNS) + "\n").encode())
        for part in _format_rows(trajectories, header or TracksHeader()):
            output.write(part)
        output.commit()
    except BaseException:
        output.abort()
        raise


def _format_rows(trajectories: Trajectories, header: TracksHeader) -> Iterator[bytes]:
    names = {label: _quoted(header.name_of(label)) for label in np.unique(trajectories.labels).tolist()}
    source = _quoted(header.source)
    for start in range(0, len(trajectories), _CHUNK):
        part = trajectories[start : start + _CHUNK]
        frames = part.frames.tolist()
        times = [""] * len(part) if header.fps is None else [f"{frame / header.fps:.3f}" for frame in frames]
        columns = (frames, times, part.ids.tolist(), part.labels.tolist(), part.scores.tolist(), part.boxes.tolist())
        yield "".join(
            [
                f"{frame},{time},{source},{track_id},{label},{names[label]},{score:.4f},"
                f"{x1:.2f},{y1:.2f},{x2:.2f},{y2:.2f},{filled:d}\n"
                for frame, time, track_id, label, score, (x1, y1, x2, y2), filled in zip(
                    *columns, part.filled.tolist(), strict=True
                )
            ]
        ).encode()


def _quoted(cell: str) -> str:
    """Return a cell as the csv module writes it among others."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow((cell, ""))
    return text.getvalue().removesuffix(",")


def _parse_chunk(
    chunk: Sequence[Sequence[str]], names: Sequence[str], path: Path, start: int, facts: ColumnFacts
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the number columns of some rows, the first of which is row ``start`` of the file."""
    for number, row in enumerate(chunk, start):
        if len(row) != len(names):
            raise InvalidInputError(
                f"{_place(path, number)} must have {len(names)} cells as the first row has, got {len(row)}; correct it",
                path=path,
            )
    cells = dict(zip(names, zip(*chunk, strict=True), strict=True))
    columns = {
        name: _parse_numbers(cells[name], name, path, start) for name in _NUMBERS if name in cells and name != "filled"
    }
    if "filled" in cells:
        columns["filled"] = _parse_flags(cells["filled"], path, start)
    if "class_name" in cells:
        labels = columns.get("label")
        if labels is None:
            columns["label"] = np.array([facts.label_of(name) for name in cells["class_name"]], np.float64)
        else:
            facts.name_labels(set(zip(labels.tolist(), cells["class_name"], strict=True)))
    if "source" in cells:
        facts.sources |= set(cells["source"])
    if "timestamp_s" in cells:
        for end in (0, -1):
            facts.add_time(float(columns["frame_index"][end]), cells["timestamp_s"][end])
    return columns


def _parse_numbers(cells: Sequence[str], name: str, path: Path, start: int) -> npt.NDArray[np.float64]:
    try:
        return np.array(cells, np.float64)
    except ValueError:
        row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
    hint = "correct the cell"
    if name == "track_id" and not cells[row].strip():
        hint = "detections have no ids: make the file with stride32 track, or convert it to MOT and use --detections"
    raise InvalidInputError(
        f"{_place(path, start + row)} must have a number as {name}, got {cells[row]!r}; {hint}", path=path
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parse_flags(cells: Sequence[str], path: Path, start: int) -> npt.NDArray[np.float64]:
    meanings = {cell: _FLAGS.get(cell.strip().lower()) for cell in set(cells)}
    if None in meanings.values():
        row = next(row for row, cell in enumerate(cells) if meanings[cell] is None)
        place = _place(path, start + row)
        raise InvalidInputError(f"{place} must have 0 or 1 as filled, got {cells[row]!r}; correct it", path=path)
    return np.array([meanings[cell] for cell in cells], np.float64)


def _place(path: Path, row: int) -> str:
    """Return the line of a row; a quoted cell may hold line ends, so the file is read again."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        next(islice((cells for cells in reader if cells), row, None))
        return f"{path} line {reader.line_num}"
