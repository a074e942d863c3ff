"""What a pipeline said of every frame, kept as columns until the sequence is over, and said again in a better way.

``track --offline`` stands on it: no picture is kept, so an hour of video fits into memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vision.tracking.offline import refine_rows
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.trajectories import Trajectories
from vision.types import Detections, FrameResult, IntArray, Tracks, TrackState


class SequenceRecorder:
    """Collects the results of one sequence, and the mean embedding of each track.

    The boxes of ``trajectories()`` are the detections', not the tracker's filtered ones: a smoother must start from
    what was measured. A track that was confirmed at some time keeps its tentative frames too where the tracker reports
    them (``output_tentative``); one that never was is left out. Coasting rows are predictions and are not kept.
    """

    def __init__(self) -> None:
        self._frames: list[FrameResult] = []
        self._tracks: list[Tracks] = []
        self._confirmed: set[int] = set()
        self._embedding_sums: dict[int, npt.NDArray[np.float64]] = {}

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def add(self, result: FrameResult) -> None:
        """Keep the result of the next frame: detections without embeddings, and the tracks that they continued."""
        detections = result.detections if result.detections is not None else Detections.empty()
        tracks = result.tracks if result.tracks is not None else Tracks.empty()
        tracks = tracks[(tracks.detection_index >= 0) & (tracks.time_since_update == 0)]
        bare = Detections(detections.boxes, detections.scores, detections.labels)
        self._frames.append(replace(result, detections=bare, tracks=None))
        self._tracks.append(tracks)
        self._confirmed.update(tracks.ids[tracks.states == TrackState.CONFIRMED].tolist())
        if detections.embeddings is not None:
            for track_id, row in zip(tracks.ids.tolist(), tracks.detection_index.tolist(), strict=True):
                unit = _unit(detections.embeddings[row].astype(np.float64))
                self._embedding_sums[track_id] = self._embedding_sums.get(track_id, 0.0) + unit

    def trajectories(self) -> Trajectories:
        """Return the tracks that were ever confirmed, at the boxes of their detections."""
        parts = [
            Trajectories(
                frames=np.full(len(tracks), facts.frame_index),
                ids=tracks.ids,
                boxes=facts.detections.boxes[tracks.detection_index],
                scores=tracks.scores,
                labels=tracks.labels,
                filled=np.zeros(len(tracks), np.bool_),
            )
            for facts, tracks in self._kept()
            if facts.detections is not None
        ]
        return Trajectories.concat(parts)

    def appearance(self) -> dict[int, npt.NDArray[np.float32]]:
        """Return the mean embedding of each track, scaled to unit norm; empty when detections carried none."""
        sums = self._embedding_sums.items()
        return {track_id: _unit(total).astype(np.float32) for track_id, total in sums if track_id in self._confirmed}

    def results(self, config: OfflineConfig | None = None) -> Iterator[FrameResult]:
        """Yield the result of each frame again, with the refined tracks.

        All tracks are confirmed and count as seen in the frame (``time_since_update`` 0), so that every writer takes
        them; a filled row has ``detection_index`` -1. Rows in frames that were never added are left out.
        """
        recorded = self.trajectories()
        refined, sources = refine_rows(recorded, config, self.appearance())
        detection_index = np.concatenate([*(tracks.detection_index for _, tracks in self._kept()), np.zeros(0, int)])
        matched = np.where(sources >= 0, np.append(detection_index, -1)[sources], -1)
        ages = refined.frames - _first_frames(refined)
        for facts in self._frames:
            low, high = np.searchsorted(refined.frames, [facts.frame_index, facts.frame_index + 1])
            rows = slice(int(low), int(high))
            count = rows.stop - rows.start
            yield replace(
                facts,
                tracks=Tracks(
                    boxes=refined.boxes[rows],
                    ids=refined.ids[rows],
                    scores=refined.scores[rows],
                    labels=refined.labels[rows],
                    states=np.full(count, TrackState.CONFIRMED),
                    ages=ages[rows],
                    time_since_update=np.zeros(count, np.int64),
                    detection_index=matched[rows],
                ),
            )

    def _kept(self) -> Iterator[tuple[FrameResult, Tracks]]:
        """Yield each frame with the tracks in it that were ever confirmed, ordered by id as ``Trajectories`` are."""
        confirmed = np.fromiter(self._confirmed, np.int64, len(self._confirmed))
        for facts, tracks in zip(self._frames, self._tracks, strict=True):
            rows = np.flatnonzero(np.isin(tracks.ids, confirmed))
            yield facts, tracks[rows[np.argsort(tracks.ids[rows])]]


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the vector scaled to unit norm; zero stays zero."""
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _first_frames(trajectories: Trajectories) -> IntArray:
    """Return for each row [R] the first frame of its track."""
    # Rows are sorted by frame, so the first row of an id is its earliest.
    _, first, track = np.unique(trajectories.ids, return_index=True, return_inverse=True)
    return np.asarray(trajectories.frames[first][track] if len(trajectories) else trajectories.frames)
