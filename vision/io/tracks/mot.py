"""Tracks as MOTChallenge text: ``frame,id,x,y,w,h,...``, frames from 1, in the variants of the benchmark.

=======  ====================================  =================================
columns  behind ``frame,id,x,y,w,h``           where from
=======  ====================================  =================================
6        nothing                               minimal results
7        score                                 detections
8        score, class                          results with classes
9        flag, class, visibility               ground truth of MOT16, 17 and 20
10       score, and three more (world, or -1)  results; ground truth of MOT15
=======  ====================================  =================================
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.io.tracks.rows import Rows, to_trajectories
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.mot import parse_mot_row
from vision.io.writers.tracks_header import TracksHeader
from vision.tracking.trajectories import Trajectories

MotLayout = Literal["result", "gt"]
_COLUMNS = range(6, 11)
_CLASSED = (8, 9)
_CHUNK = 10_000  # rows in one formatting step
_UNCLASSED = -1


def read_mot_tracks(path: Path) -> tuple[Trajectories, TracksHeader]:
    """Return the tracks of a MOTChallenge file of 6 to 10 columns (commas or spaces).

    A missing score is 1; the flag of a ground truth is its score, so rows to ignore have 0. A class c is label c - 1; a
    class of -1, or none, is label 0. Coordinates are taken as they stand. A file without rows holds no tracks.

    Raises:
        InvalidInputError: names the file and line of what does not fit.
    """
    text = _read_text(path)
    table = _parse_fast(text)
    if table is None:
        table = _parse_slow(text, path)
    n_columns = table.shape[1]
    if n_columns not in _COLUMNS:
        raise InvalidInputError(
            f"{_place(text, path, 0)} must have 6 to 10 columns (frame, id, x, y, w, h, score, ...), got {n_columns}; "
            "pass a MOTChallenge file",
            path=path,
        )
    labels = table[:, 7] - 1 if n_columns in _CLASSED else np.zeros(len(table))
    if n_columns in _CLASSED:
        labels[table[:, 7] == _UNCLASSED] = 0
    rows = Rows(
        frames=table[:, 0] - 1,
        ids=table[:, 1],
        boxes=np.concatenate([table[:, 2:4], table[:, 2:4] + table[:, 4:6]], axis=1),
        scores=table[:, 6] if n_columns > 6 else None,
        labels=labels,
    )
    place = partial(_place, text, path)
    return to_trajectories(rows, place, first_frame=1, first_label=1), TracksHeader()


def write_mot_tracks(
    trajectories: Trajectories, path: Path, *, layout: MotLayout = "result", overwrite: bool = False
) -> None:
    """Write MOTChallenge rows; what no column holds is lost: ``filled``, and labels (result) or scores (gt).

    Args:
        trajectories: the rows.
        path: output file, made when it is complete.
        layout: "result" is ``frame,id,x,y,w,h,score,-1,-1,-1`` with four digits of the score; "gt" is
            ``frame,id,x,y,w,h,1,class,1`` with class = label + 1, as the ground truth of MOT16 and later.
        overwrite: replace a file that exists.
    """
    output = AtomicFile(path, overwrite=overwrite)
    try:
        for part in _format_rows(trajectories, layout):
            output.write(part)
        output.commit()
    except BaseException:
        output.abort()
        raise


def _format_rows(trajectories: Trajectories, layout: MotLayout) -> Iterator[bytes]:
    boxes = trajectories.boxes.astype(np.float64)
    columns: list[npt.NDArray[Any]] = [trajectories.frames + 1, trajectories.ids, boxes[:, 0], boxes[:, 1]]
    columns += [boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]]
    if layout == "result":
        columns.append(trajectories.scores)
        pattern = "%d,%d,%.2f,%.2f,%.2f,%.2f,%.4f,-1,-1,-1\n"
    else:
        columns.append(trajectories.labels + 1)
        pattern = "%d,%d,%.2f,%.2f,%.2f,%.2f,1,%d,1\n"
    for start in range(0, len(trajectories), _CHUNK):
        rows = zip(*(column[start : start + _CHUNK].tolist() for column in columns), strict=True)
        yield "".join([pattern % row for row in rows]).encode()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise InvalidInputError(
            f"{path} must be a MOTChallenge text file, failed to read it: {reason}; check the path", path=path
        ) from exc


def _parse_fast(text: str) -> npt.NDArray[np.float64] | None:
    """Return the numbers [R, C] of a regular file, or None for one that numpy's reader refuses or that is doubtful."""
    first = next((line for line in io.StringIO(text) if line.strip()), None)
    if first is None:
        return np.zeros((0, 6))
    try:
        table = np.loadtxt(
            io.StringIO(text), np.float64, delimiter="," if "," in first else None, comments=None, ndmin=2
        )
    except ValueError:
        return None
    # What is odd goes through the careful reader, which finds the line.
    odd = table.shape[1] < 6 or not np.isfinite(table[:, :7]).all() or (table[:, 0] < 1).any()
    return None if odd or (table[:, 4:6] < 0).any() else table


def _parse_slow(text: str, path: Path) -> npt.NDArray[np.float64]:
    """Return the numbers [R, C] line by line; raises InvalidInputError with the line of the first fault."""
    rows: list[list[float]] = []
    for number, line in _filled_lines(text):
        values = parse_mot_row(line, f"{path} line {number}")
        if rows and len(values) != len(rows[0]):
            raise InvalidInputError(
                f"{path} line {number} must have {len(rows[0])} columns as those before it, got {len(values)}; "
                "correct it",
                path=path,
            )
        rows.append(values)
    return np.asarray(rows, np.float64)


def _filled_lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(io.StringIO(text), start=1) if line.strip())


def _place(text: str, path: Path, row: int) -> str:
    number, _ = next(islice(_filled_lines(text), row, None))
    return f"{path} line {number}"
