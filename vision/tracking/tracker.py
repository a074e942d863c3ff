"""DeepSORT over arrays: Detections (and their embeddings) in, Tracks out; the tracking stage of a frame.

One update: predict all tracks, match them (``associate``), correct the matched, begin tracks for detections left over,
end those missing for too long. No Python object and no Python loop per track: the state is a table of columns and a
gallery.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.geometry.boxes import Boxes, cxcyah_to_xyxy, xyxy_to_cxcyah
from vision.tracking import kalman
from vision.tracking.assignment import Indices, others
from vision.tracking.association import associate
from vision.tracking.config import TrackerConfig
from vision.tracking.gallery import Gallery, unit_rows
from vision.tracking.table import COLUMNS, TrackTable
from vision.types import Detections, FloatArray, Tracks, TrackState


class Tracker:
    """Multi-object tracker of one stream (Wojke 2017); use one instance for each stream.

    Ids start at 1, grow in the order of birth and are never reused, ``reset`` included.

    With embeddings, confirmed tracks are matched in a cascade by appearance among the pairs that pass the motion gate;
    what is left (tentative tracks, tracks seen in the last frame, tracks without any embedding) is matched by overlap.
    Without embeddings the cascade is the same, with 1 - IoU in place of the appearance distance. Frames with and
    without embeddings may alternate.

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
        self._table = TrackTable()
        self._gallery: Gallery | None = None
        self._frame_index: int | None = None
        self._timestamp_s: float | None = None

    def update(
        self, detections: Detections, *, frame_index: int | None = None, timestamp_s: float | None = None
    ) -> Tracks:
        """Return the tracks of the next frame, ordered by id, and advance the state.

        Args:
            detections: objects of this frame. Rows below ``high_conf`` or without area take no part. Embeddings of any
                positive length are scaled to unit norm.
            frame_index: number of this frame; when given it must be higher than that of the last update.
            timestamp_s: time of this frame, likewise; with ``nominal_fps`` it decides how far the tracks are predicted.

        Raises:
            InvalidInputError: a zero embedding, an embedding width that changes, or time going backwards. The state is
                then as before the call.
        """
        usable = self._usable_rows(detections)
        boxes = xyxy_to_cxcyah(detections.boxes[usable].astype(np.float64))
        embeddings = self._unit_embeddings(detections, usable)
        dt = self._advance_clock(frame_index, timestamp_s)
        # Nothing below raises: a rejected frame leaves no trace.
        if embeddings is not None and self._gallery is None:
            self._gallery = Gallery(self.config.gallery_size, embeddings.shape[1], self._table.capacity)
        self._predict(dt)
        rows, columns = associate(
            self._table, self._gallery, boxes, detections.labels[usable], embeddings, self.config, self._noise
        )
        self._correct(rows, boxes[columns], detections[usable[columns]])
        self._remember(rows, None if embeddings is None else embeddings[columns])
        detection_index = np.full(len(self._table), -1)
        detection_index[rows] = usable[columns]
        detection_index = self._end_missing(detection_index)
        unmatched = others(len(usable), columns)
        born = self._begin(boxes[unmatched], detections[usable[unmatched]])
        self._remember(born, None if embeddings is None else embeddings[unmatched])
        return self._report(np.concatenate([detection_index, usable[unmatched]]))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the whole state; ``from_arrays`` goes on from there with exactly the same results."""
        arrays = {name: self._table[name].copy() for name in COLUMNS}
        # NaN stands for "no clock yet"; frame indices stay exact up to 2^53.
        clock = [np.nan if value is None else value for value in (self._frame_index, self._timestamp_s)]
        arrays["clock"] = np.array([self._next_id, *clock], np.float64)
        if self._gallery is not None:
            arrays["gallery"], arrays["written"] = self._gallery.to_arrays(len(self._table))
        return arrays

    @classmethod
    def from_arrays(cls, config: TrackerConfig, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return a tracker in the state ``to_arrays`` gave; raises InvalidInputError when the arrays do not fit."""
        tracker = cls(config)
        tracker._table = TrackTable.from_columns(arrays)
        clock = arrays.get("clock", np.zeros(0))
        if clock.shape != (3,) or not clock[0] > tracker._table["ids"].max(initial=0):
            raise InvalidInputError(
                f"tracker state needs clock [3] with the next id, got {clock.tolist()}; save it again"
            )
        tracker._next_id = int(clock[0])
        tracker._frame_index = None if np.isnan(clock[1]) else int(clock[1])
        tracker._timestamp_s = None if np.isnan(clock[2]) else float(clock[2])
        if "gallery" in arrays:
            tracker._gallery = Gallery.from_arrays(arrays["gallery"], arrays["written"], config.gallery_size)
            tracker._gallery.reserve(tracker._table.capacity)
        return tracker

    # --- checks of the input ---

    def _usable_rows(self, detections: Detections) -> Indices:
        """Return the numbers of rows with an area and a sufficient score."""
        size = detections.boxes[:, 2:] - detections.boxes[:, :2]
        return np.flatnonzero((size > 0).all(axis=1) & (detections.scores >= self.config.high_conf))

    def _unit_embeddings(self, detections: Detections, usable: Indices) -> FloatArray | None:
        """Return unit embeddings of the usable rows, or None when there are none or appearance is off."""
        if detections.embeddings is None or not self.config.appearance or not len(usable):
            return None
        width = detections.embeddings.shape[1]
        if self._gallery is not None and width != self._gallery.width:
            raise InvalidInputError(
                f"embeddings must keep the width {self._gallery.width} of this tracker's first frame, got {width}; "
                "use one embedder a stream, or call reset()",
                expected=str(self._gallery.width),
                actual=str(width),
            )
        return unit_rows(detections.embeddings[usable])

    def _advance_clock(self, frame_index: int | None, timestamp_s: float | None) -> float:
        """Return the time step in nominal frames and keep the new time; raises when time does not advance."""
        dt = 1.0
        if frame_index is not None and self._frame_index is not None and frame_index <= self._frame_index:
            raise InvalidInputError(
                f"frame_index must be above {self._frame_index}, the last one, got {frame_index}; "
                "feed frames in order, one tracker a stream, or call reset()"
            )
        if timestamp_s is not None and not math.isfinite(timestamp_s):
            raise InvalidInputError(f"timestamp_s must be finite seconds, got {timestamp_s}; leave the time out")
        if timestamp_s is not None and self._timestamp_s is not None:
            if timestamp_s <= self._timestamp_s:
                raise InvalidInputError(
                    f"timestamp_s must be above {self._timestamp_s}, the last one, got {timestamp_s}; "
                    "feed frames in order, or leave the time out"
                )
            if self.config.nominal_fps:
                dt = (timestamp_s - self._timestamp_s) * self.config.nominal_fps
        self._frame_index = self._frame_index if frame_index is None else frame_index
        self._timestamp_s = self._timestamp_s if timestamp_s is None else timestamp_s
        return dt

    # --- the steps of an update ---

    def _predict(self, dt: float) -> None:
        """Advance every track to this frame."""
        table = self._table
        mean = kalman.stop_collapse(table["mean"], dt)
        table["mean"], table["covariance"] = kalman.predict(mean, table["covariance"], self._noise, dt)
        table["ages"] += 1
        table["time_since_update"] += 1

    def _correct(self, rows: Indices, boxes: Boxes, matched: Detections) -> None:
        """Bring matched tracks to their detections."""
        table = self._table
        mean, covariance = kalman.update(table["mean"][rows], table["covariance"][rows], boxes, self._noise)
        table["mean"][rows], table["covariance"][rows] = mean, covariance
        table["labels"][rows], table["scores"][rows] = matched.labels, matched.scores
        table["hits"][rows] += 1
        table["time_since_update"][rows] = 0
        table["confirmed"][rows] |= table["hits"][rows] >= self.config.n_init

    def _remember(self, rows: Indices, embeddings: FloatArray | None) -> None:
        """Add the embeddings of this frame to the galleries of ``rows``."""
        if embeddings is not None and self._gallery is not None:
            self._gallery.add(rows, embeddings)

    def _end_missing(self, detection_index: Indices) -> Indices:
        """Delete tentative tracks at the first miss, confirmed ones after ``max_age``; return the index of the rest."""
        table = self._table
        missing = table["time_since_update"]
        ended = np.flatnonzero(np.where(table["confirmed"], missing > self.config.max_age, missing > 0))
        if not len(ended):
            return detection_index
        sources, targets = table.remove(ended)
        if self._gallery is not None:
            self._gallery.move(sources, targets)
        detection_index[targets] = detection_index[sources]
        return detection_index[: len(table)]

    def _begin(self, boxes: Boxes, detections: Detections) -> Indices:
        """Start a tentative track at each detection and return the new rows."""
        table = self._table
        rows = table.append(len(boxes))
        table["mean"][rows], table["covariance"][rows] = kalman.initiate(boxes, self._noise)
        table["labels"][rows], table["scores"][rows] = detections.labels, detections.scores
        table["ids"][rows] = self._next_id + np.arange(len(rows))
        table["hits"][rows] = 1
        table["confirmed"][rows] = self.config.n_init == 1
        self._next_id += len(rows)
        if self._gallery is not None:
            self._gallery.reserve(table.capacity)
            self._gallery.clear(rows)
        return rows

    def _report(self, detection_index: Indices) -> Tracks:
        """Return the rows that the configuration lets out, ordered by id."""
        table, config = self._table, self.config
        shown = table["time_since_update"] <= config.output_coasting
        if not config.output_tentative:
            shown &= table["confirmed"]
        rows = np.flatnonzero(shown)
        rows = rows[np.argsort(table["ids"][rows])]
        return Tracks(
            boxes=cxcyah_to_xyxy(table["mean"][rows, :4]),
            ids=table["ids"][rows],
            scores=table["scores"][rows],
            labels=table["labels"][rows],
            states=np.where(table["confirmed"][rows], TrackState.CONFIRMED, TrackState.TENTATIVE),
            ages=table["ages"][rows],
            time_since_update=table["time_since_update"][rows],
            detection_index=detection_index[rows],
        )
