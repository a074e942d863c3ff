"""What a tracker said of every frame, kept as columns until the sequence is over; no picture is kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.tracking.trajectories import Trajectories
from vision.types import Detections, IntArray, Tracks, TrackState

INDEX_COLUMNS = ("ids", "labels", "detection_index")


class TrackRecorder:
    """Collects the tracks of a sequence with the detections behind them, and the mean embedding of each track.

    The boxes kept are the detections', not the tracker's filtered ones: a smoother must start from what was measured.
    A track that was confirmed at some time keeps its tentative frames too, if the tracker reports them
    (``output_tentative``); what was never confirmed is left out.
    """

    def __init__(self) -> None:
        self._frames: list[IntArray] = []
        self._boxes: list[npt.NDArray[np.float32]] = []
        self._scores: list[npt.NDArray[np.float32]] = []
        self._columns: dict[str, list[IntArray]] = {name: [] for name in INDEX_COLUMNS}
        self._confirmed: set[int] = set()
        self._embedding_sums: dict[int, npt.NDArray[np.float64]] = {}

    def add(self, frame_index: int, detections: Detections, tracks: Tracks) -> None:
        """Keep what was seen in one frame: the tracks that ``detections`` continued or began."""
        matched = tracks[tracks.detection_index >= 0]
        self._frames.append(np.full(len(matched), frame_index, np.int64))
        self._boxes.append(detections.boxes[matched.detection_index])
        self._scores.append(matched.scores)
        for name, parts in self._columns.items():
            parts.append(getattr(matched, name))
        self._confirmed.update(matched.ids[matched.states == TrackState.CONFIRMED].tolist())
        if detections.embeddings is not None:
            for track_id, row in zip(matched.ids.tolist(), matched.detection_index.tolist(), strict=True):
                embedding = detections.embeddings[row].astype(np.float64)
                unit = embedding / max(float(np.linalg.norm(embedding)), 1e-12)
                self._embedding_sums[track_id] = self._embedding_sums.get(track_id, 0.0) + unit

    def trajectories(self) -> Trajectories:
        """Return the tracks so far that were ever confirmed."""
        rows = self._rows()
        return Trajectories(
            _joined(self._frames)[rows],
            self._column("ids")[rows],
            np.concatenate([*self._boxes, np.zeros((0, 4), np.float32)])[rows],
            np.concatenate([*self._scores, np.zeros(0, np.float32)])[rows],
            self._column("labels")[rows],
            np.zeros(len(rows), np.bool_),
        )

    def detection_index(self) -> IntArray:
        """Return for each row of ``trajectories()`` the row of its detection in its frame, int64 [R]."""
        return self._column("detection_index")[self._rows()]

    def appearance(self) -> dict[int, npt.NDArray[np.float32]]:
        """Return the mean embedding of each track, scaled to unit norm; empty when detections carried none."""
        return {
            track_id: (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
            for track_id, total in self._embedding_sums.items()
            if track_id in self._confirmed
        }

    def _rows(self) -> npt.NDArray[np.intp]:
        """Return the rows of confirmed tracks in the order of (frame, id)."""
        ids = self._column("ids")
        order = np.lexsort((ids, _joined(self._frames)))
        confirmed = np.isin(ids, np.fromiter(self._confirmed, np.int64, len(self._confirmed)))
        return order[confirmed[order]]

    def _column(self, name: str) -> IntArray:
        return _joined(self._columns[name])


def _joined(parts: list[IntArray]) -> IntArray:
    """Return the parts of a column as one, also when there are none."""
    return np.concatenate([*parts, np.zeros(0, np.int64)])
