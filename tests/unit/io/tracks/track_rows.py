"""Tracks made from plain lists, for the tests of their files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vision.io.tracks import TracksHeader
from vision.tracking.trajectories import Trajectories

Row = tuple[int, int, Sequence[float], float, int, bool]

ROWS: list[Row] = [
    (0, 1, (1.25, 2.5, 30, 40.75), 0.9, 0, False),
    (0, 7, (100, 50, 140, 150), 0.5, 2, False),
    (1, 1, (2.25, 2.5, 31, 40.75), 0.0, 0, True),
    (4, 1, (-5, -2.5, 20, 30), 1.0, 0, False),
]
HEADER = TracksHeader(
    class_names=("person", 'car, "red"', "dog"), fps=12.5, source="street.mp4", size_hw=(480, 640), frame_count=6
)


def make_trajectories(rows: Sequence[Row] = ROWS) -> Trajectories:
    """Return rows of (frame, id, box, score, label, filled)."""
    frames, ids, boxes, scores, labels, filled = zip(*rows, strict=True) if rows else ((),) * 6
    return Trajectories(
        np.array(frames, np.int64),
        np.array(ids, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        np.array(filled, np.bool_),
    )


def assert_close(found: Trajectories, expected: Trajectories, *, pixels: float, score: float) -> None:
    """Compare all columns; labels and marks of filled rows exactly."""
    for name in ("frames", "ids", "labels", "filled"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=pixels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=score)
