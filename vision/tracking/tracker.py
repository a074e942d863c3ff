"""DeepSORT and its successors over arrays: Detections (and embeddings) in, Tracks out; the tracking stage of a frame.

One update: predict all tracks, match them (``associate``), correct the matched, begin tracks for detections left over,
end those missing for too long. No Python object and no Python loop per track: the state is a table of columns and a
gallery.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.geometry.boxes import cxcyah_to_xyxy
from vision.tracking import kalman, observation
from vision.tracking.assignment import Indices
from vision.tracking.association import Found, associate
from vision.tracking.clock import Clock
from vision.tracking.config import TrackerConfig
from vision.tracking.gallery import Gallery
from vision.tracking.intake import Intake, checked_motion
from vision.tracking.life_cycle import births, ended_rows, reported_tracks
from vision.tracking.shared_motion import shared_shift
from vision.tracking.table import TrackTable
from vision.tracking.undisputed import undisputed
from vision.types import Detections, FloatArray, Tracks


class Tracker:
    """Multi-object tracker of one stream (Wojke 2017 and what came after); use one instance for each stream.

    Ids start at 1, grow in the order of birth and are never reused, ``reset`` included.

    With embeddings, confirmed tracks are matched by appearance among the pairs that pass the motion gate; what is left
    (tentative tracks, tracks seen in the last frame, tracks without any embedding) is matched by overlap. Without
    embeddings overlap stands for appearance. Frames with and without embeddings may alternate. The other options are
    stages and terms added to this, see ``TrackerConfig`` and ``vision.tracking.association``.

    Args:
        config: settings; ``PRESETS`` holds named ones.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        self.config = config or TrackerConfig()
        self._noise = kalman.Noise(self.config.std_weight_position, self.config.std_weight_velocity)
        self._next_id = 1
        self.reset()

    def __len__(self) -> int:
        """Return the number of live tracks, tentative ones included."""
        return len(self._table)

    def reset(self) -> None:
        """Forget all tracks, as at a cut; the next id is higher than any before."""
        self._table = TrackTable(observations=self._observes)
        self._gallery: Gallery | None = None
        self._clock = Clock()
        self._intake = Intake(self.config)
        # A tracker's first frame with detections, where ``confirm_first`` applies, is over once a track was born.
        self._is_first = True

    def update(
        self,
        detections: Detections,
        *,
        frame_index: int | None = None,
        timestamp_s: float | None = None,
        camera_motion: npt.NDArray[np.float64] | None = None,
    ) -> Tracks:
        """Return the tracks of the next frame, ordered by id, and advance the state.

        Args:
            detections: objects of this frame. Rows without area or of a score below the settings take no part.
                Embeddings of any positive length are scaled to unit norm; those of rows that ``compared_rows`` left out
                may be zero.
            frame_index: number of this frame; when given it must be higher than that of the last update. Numbers left
                out are frames that passed unseen: tracks are predicted over them and grow older by them.
            timestamp_s: time of this frame, likewise; with ``nominal_fps`` it decides how far the tracks are predicted.
            camera_motion: float64 [2, 3], maps pixel positions of the last frame to this one; None for a still camera.

        Raises:
            InvalidInputError: a zero embedding, an embedding width that changes, time going backwards, or a
                camera motion that is no such matrix. The state is then as before the call.
        """
        width = None if self._gallery is None else self._gallery.width
        # Before anything moves: what compared_rows spared may be missing.
        usable, found = self._intake.read(detections, width, lambda: self._undisputed(detections))
        motion = checked_motion(camera_motion)
        frames, dt, seconds = self._clock.advance(frame_index, timestamp_s, self.config.nominal_fps)
        # Nothing below raises: a rejected frame leaves no trace.
        if found.embeddings is not None and self._gallery is None:
            config, width = self.config, found.embeddings.shape[1]
            self._gallery = Gallery(config.gallery_size, width, self._table.capacity, ema=config.ema)
        self._predict(frames, dt, seconds, motion)
        self._follow_shared_motion(found, frames)
        rows, columns = associate(self._table, self._gallery, found, self.config, self._noise, frames)
        self._correct(rows, columns, found, dt / frames)
        scores = detections.scores[usable]
        self._table["scores"][rows] = scores[columns]
        detection_index = np.empty(len(self._table), np.int64)
        detection_index.fill(-1)
        detection_index[rows] = usable[columns]
        detection_index = self._end_missing(detection_index)
        chosen = births(found, columns, self.config)
        self._begin(found, chosen, scores[chosen])
        self._intake.learn(scores[columns])
        if len(chosen):
            detection_index = np.concatenate([detection_index, usable[chosen]])
        return reported_tracks(self._table, detection_index, detections, self.config)

    def compared_rows(self, detections: Detections) -> Indices:
        """Return the rows of the next frame's detections whose embeddings ``update`` will look at; others need none."""
        rows = self._intake.compared_rows(detections)
        spared = self._undisputed(detections)
        return rows if spared is None else rows[~spared[rows]]

    def _undisputed(self, detections: Detections) -> npt.NDArray[np.bool_] | None:
        """Return which detections [N] need no embedding, None where the settings or the state spare none."""
        config = self.config
        if config.appearance_every == 1 or self._gallery is None or not len(self._table) or not len(detections):
            return None
        every, per_class = config.appearance_every, config.per_class
        return undisputed(self._table, self._gallery, detections, every=every, per_class=per_class)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the whole state; ``from_arrays`` goes on from there with exactly the same results."""
        arrays = {name: self._table[name].copy() for name in self._table.layout}
        arrays["clock"] = np.array(
            [self._next_id, *self._clock.to_numbers(), self._is_first, self._intake.typical_score]
        )
        if self._gallery is not None:
            arrays["gallery"], arrays["written"] = self._gallery.to_arrays(len(self._table))
        return arrays

    @classmethod
    def from_arrays(cls, config: TrackerConfig, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return a tracker in the state ``to_arrays`` gave; raises InvalidInputError when the arrays do not fit."""
        tracker = cls(config)
        unknown = arrays.keys() - tracker._table.layout.keys() - {"clock", "gallery", "written"}
        if unknown or ("gallery" in arrays) != ("written" in arrays):
            raise InvalidInputError(
                f"tracker state needs known arrays, a gallery only with its counts, got {sorted(arrays)}; save it again"
            )
        tracker._table = TrackTable.from_columns(arrays, observations=tracker._observes)
        clock = arrays.get("clock", np.zeros(0))
        if clock.shape != (5,) or clock.dtype != np.float64 or not clock[0] > tracker._table["ids"].max(initial=0):
            raise InvalidInputError(
                f"tracker state needs clock [5] with the next id, got {clock.tolist()}; save it again"
            )
        tracker._next_id = int(clock[0])
        tracker._clock = Clock.from_numbers(clock[1:3])
        tracker._is_first, tracker._intake.typical_score = bool(clock[3]), float(clock[4])
        if "gallery" in arrays:
            tracker._gallery = Gallery.from_arrays(
                arrays["gallery"], arrays["written"], config.gallery_size, ema=config.ema
            )
            tracker._gallery.reserve(tracker._table.capacity)
        return tracker

    @property
    def _observes(self) -> bool:
        """Whether observations are remembered beside the filter's state."""
        return self.config.momentum > 0 or self.config.reupdate or self.config.recovery

    # --- the steps of an update ---

    def _predict(self, frames: int, dt: float, seconds: float, motion: npt.NDArray[np.float64] | None) -> None:
        """Advance every track to this frame."""
        table = self._table
        if not len(table):
            return
        if self.config.hold_size:
            table["mean"][table["time_since_update"] > 0, 6:8] = 0
        state = kalman.stop_collapse(table["mean"], dt), table["covariance"]
        state = kalman.predict(*state, self._noise, dt)
        table["mean"], table["covariance"] = state
        if motion is not None:
            self._move(motion)
        table["ages"] += frames
        table["time_since_update"] += frames
        table["unseen_s"] += seconds

    def _move(self, motion: npt.NDArray[np.float64]) -> None:
        """Move all tracks with the picture, by an affine ``motion`` [2, 3]."""
        table = self._table
        table["mean"], table["covariance"] = kalman.warp(table["mean"], table["covariance"], motion)
        if self._observes:
            observation.warp(table, motion)

    def _follow_shared_motion(self, found: Found, frames: int) -> None:
        """Move all tracks by what most sure matches agree on, if the settings say so."""
        if not self.config.shared_motion:
            return
        table = self._table
        seen = table["mean"][table["confirmed"] & (table["time_since_update"] == frames), :4]
        shift = shared_shift(cxcyah_to_xyxy(seen), found.corners if found.high is None else found.corners[found.high])
        if shift is not None:
            table["mean"] = kalman.shifted(table["mean"], shift)
            if self._observes:
                observation.shift(table, shift)

    def _correct(self, rows: Indices, columns: Indices, found: Found, frame_dt: float) -> None:
        """Bring matched tracks to their detections."""
        if not len(rows):
            return
        table, config = self._table, self.config
        boxes, scores = found.boxes[columns], found.scores[columns]
        if config.reupdate:
            gaps = table["time_since_update"][rows]
            lost = np.flatnonzero((gaps > 1) & table["confirmed"][rows])
            if len(lost):
                observation.replay(table, rows[lost], boxes[lost], gaps[lost], self._noise, frame_dt)
        uncertainty = kalman.nsa_uncertainty(scores) if config.nsa else None
        state = kalman.update(table["mean"][rows], table["covariance"][rows], boxes, self._noise, uncertainty)
        table["mean"][rows], table["covariance"][rows] = state
        table["labels"][rows] = found.labels[columns]
        table["hits"][rows] += 1
        table["time_since_update"][rows] = 0
        table["unseen_s"][rows] = 0
        table["confirmed"] |= table["hits"] >= config.n_init
        if self._observes:
            observation.remember(table, rows, boxes)
        self._remember(rows, columns, found)

    def _remember(self, rows: Indices, columns: Indices, found: Found) -> None:
        """Add the embeddings of detections ``columns`` to the galleries of ``rows``; unsure detections have none."""
        if found.embeddings is None or self._gallery is None:
            return
        if found.high is not None:
            sure = found.scores[columns] >= self.config.high_conf
            rows, columns = rows[sure], columns[sure]
        if found.unseen is not None:
            seen = ~found.unseen[columns]
            rows, columns = rows[seen], columns[seen]
        self._gallery.add(rows, found.embeddings[columns])

    def _end_missing(self, detection_index: Indices) -> Indices:
        """Delete the tracks whose time is over; return the index of the rest."""
        table = self._table
        ended = ended_rows(table, self.config, has_time=self._clock.has_time)
        if not len(ended):
            return detection_index
        sources, targets = table.remove(ended)
        if self._gallery is not None:
            self._gallery.move(sources, targets)
        detection_index[targets] = detection_index[sources]
        return detection_index[: len(table)]

    def _begin(self, found: Found, columns: Indices, scores: FloatArray) -> None:
        """Start a tentative track at each of the detections."""
        if not len(columns):
            return
        table, boxes = self._table, found.boxes[columns]
        rows = table.append(len(columns))
        table["mean"][rows], table["covariance"][rows] = kalman.initiate(boxes, self._noise)
        table["labels"][rows], table["scores"][rows] = found.labels[columns], scores
        table["ids"][rows] = self._next_id + np.arange(len(rows))
        table["hits"][rows] = 1
        table["confirmed"][rows] = self.config.n_init == 1 or (self.config.confirm_first and self._is_first)
        self._is_first = False
        self._next_id += len(rows)
        if self._observes:
            observation.begin(table, rows, boxes)
        if self._gallery is not None:
            self._gallery.reserve(table.capacity)
            self._gallery.clear(rows)
        self._remember(rows, columns, found)
