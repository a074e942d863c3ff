"""Frames and results made from plain lists, for the tests of writers and of drawing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision.types import Detections, Frame, FrameResult, Tracks, TrackState

CONFIRMED, TENTATIVE = int(TrackState.CONFIRMED), int(TrackState.TENTATIVE)


def make_frame(
    index: int = 0, size_hw: tuple[int, int] = (60, 80), *, time_s: float | None = None, source: str = ""
) -> Frame:
    """Return a grey frame."""
    return Frame(np.full((*size_hw, 3), 90, np.uint8), index=index, timestamp_s=time_s, source=source)


def make_detections(*boxes: Sequence[float], score: float = 0.5, label: int = 0) -> Detections:
    """Return detections with one score and label."""
    n = len(boxes)
    return Detections(np.array(boxes, np.float32).reshape(n, 4), np.full(n, score), np.full(n, label))


def make_tracks(
    *rows: tuple[int, Sequence[float]], state: int = CONFIRMED, missed: int = 0, score: float = 0.9
) -> Tracks:
    """Return tracks of (id, box) rows in one state."""
    n = len(rows)
    zeros = np.zeros(n, np.int64)
    boxes = np.array([box for _, box in rows], np.float32).reshape(n, 4)
    ids = np.array([track_id for track_id, _ in rows], np.int64)
    return Tracks(boxes, ids, np.full(n, score), zeros, zeros + state, zeros + 5, zeros + missed, zeros - 1)


def make_result(
    index: int = 0,
    *,
    tracks: Tracks | None = None,
    detections: Detections | None = None,
    source: str = "",
    time_s: float | None = None,
) -> FrameResult:
    """Return a result of one frame."""
    return FrameResult(index, time_s, source, (60, 80), detections, tracks)
