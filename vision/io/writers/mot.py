"""MOTChallenge text: ``frame,id,x,y,w,h,score,-1,-1,-1``, frames from 1; tracks out, detections in and out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vision.errors import InvalidInputError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer, reported_tracks, rounded_xywh
from vision.types import Detections, Frame, FrameResult


class MotWriter(Writer):
    """Writes confirmed tracks matched in the frame; detections with id -1 when no tracker ran.

    x and y are our pixel coordinates (0 at the picture's edge) as trackers commonly write them, without the 1 that the
    benchmark's own ground truth adds.
    """

    def __init__(self, path: str | Path, *, overwrite: bool = False) -> None:
        self._output = AtomicFile(path, overwrite=overwrite)

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Add one row a track (or detection); a frame without any adds none."""
        self._output.write(mot_rows(result))

    def close(self) -> None:
        """Finish the file."""
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._output.abort()


def mot_rows(result: FrameResult) -> bytes:
    """Return the rows of one frame, one a line: its confirmed, matched tracks, or its detections without a tracker.

    Raises:
        InvalidInputError: the result has neither tracks nor detections.
    """
    number = result.frame_index + 1
    if result.tracks is not None:
        tracks = reported_tracks(result.tracks)
        ids, boxes, scores, digits = tracks.ids.tolist(), tracks.boxes, tracks.scores.tolist(), 2
    elif result.detections is not None:
        # Four digits: detections are read back, and thresholds on their scores must still bite.
        boxes, scores, digits = result.detections.boxes, result.detections.scores.tolist(), 4
        ids = [-1] * len(boxes)
    else:
        raise InvalidInputError("a MOT file needs tracks or detections, got a result with neither; run track or detect")
    rows = [
        f"{number},{track_id},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.{digits}f},-1,-1,-1\n"
        for track_id, (x, y, w, h), score in zip(ids, rounded_xywh(boxes), scores, strict=True)
    ]
    return "".join(rows).encode()


def read_mot(path: str | Path) -> dict[int, Detections]:
    """Return the detections of a MOTChallenge file by frame index from 0, in frame order.

    Rows are ``frame, id, x, y, w, h[, score, ...]`` with commas or spaces; the id is not used, a missing score is 1
    and all labels are 0. Frames without rows are absent.

    Raises:
        InvalidInputError: names the line of a wrong count of columns, a value that is no finite number, a frame below
            1 or a negative size.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise InvalidInputError(
            f"{path} must be a MOTChallenge text file, failed to read it: {reason}", path=path
        ) from exc
    rows: dict[int, list[list[float]]] = {}
    n_columns: int | None = None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        values = parse_mot_row(line, f"{path} line {number}")
        if n_columns is not None and len(values) != n_columns:
            raise InvalidInputError(
                f"{path} line {number} must have {n_columns} columns as those before it, got {len(values)}; correct it",
                path=path,
            )
        n_columns = len(values)
        rows.setdefault(int(values[0]) - 1, []).append(values)
    return {index: _to_detections(rows[index]) for index in sorted(rows)}


def parse_mot_row(line: str, where: str) -> list[float]:
    """Return the numbers of one row; raises InvalidInputError, beginning with ``where``, as read_mot does."""
    try:
        values = [float(cell) for cell in line.replace(",", " ").split()]
    except ValueError as exc:
        raise InvalidInputError(f"{where} must hold numbers only, {exc}; correct or remove the line") from exc
    if len(values) < 6:
        raise InvalidInputError(
            f"{where} must have at least 6 columns (frame, id, x, y, w, h), got {len(values)}; correct the line"
        )
    if not all(math.isfinite(value) for value in values[:7]):
        raise InvalidInputError(f"{where} must hold finite numbers, got {line.strip()}; correct or remove the line")
    frame, width, height = values[0], values[4], values[5]
    if frame < 1 or frame != int(frame):
        raise InvalidInputError(f"{where} must begin with a frame number from 1, got {frame:g}; correct the line")
    if width < 0 or height < 0:
        raise InvalidInputError(
            f"{where} must have w and h >= 0, got {width:g} and {height:g}; correct or remove the line"
        )
    return values


def _to_detections(rows: list[list[float]]) -> Detections:
    table = np.asarray([row[2:6] for row in rows], np.float64)
    scores = [row[6] if len(row) > 6 else 1.0 for row in rows]
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:]], axis=1)
    return Detections(boxes.astype(np.float32), np.asarray(scores, np.float32), np.zeros(len(rows), np.int64))
