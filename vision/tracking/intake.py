"""Detections as the tracker takes them: usable rows, score limits, unit embeddings; rejects what cannot be used.

What a score means differs from detector to detector. With ``relative_conf`` the limits are shares of the typical score
of this stream: the running median of the detections that tracks were matched with.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.geometry.boxes import xyxy_to_cxcyah
from vision.tracking.assignment import Indices
from vision.tracking.association import Found
from vision.tracking.config import TrackerConfig
from vision.tracking.gallery import unit_rows
from vision.types import Detections, FloatArray

SCORE_RATE = 0.05
"""Share of a new frame in the typical score: some twenty frames decide it."""


Spared = Callable[[], npt.NDArray[np.bool_] | None]
"""Returns bool [N], or None when no row was spared."""

MAX_COORDINATE = 1e12
"""Far beyond any picture; what lies further would overflow on its way back to float32."""
MIN_SCALE, MAX_SCALE = 1e-3, 1e3


class Intake:
    """The door of one tracker.

    Attributes:
        typical_score: running median of matched scores; NaN until the first match, and unused without
            ``relative_conf``.
    """

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self.typical_score = math.nan

    def read(self, detections: Detections, width: int | None, spared: Spared) -> tuple[Indices, Found]:
        """Return the numbers of the usable rows [N], and these rows in the tracker's terms.

        Args:
            detections: of one frame.
            width: of the embeddings seen so far; None before the first.
            spared: tells the rows that may have a zero embedding because it was not computed; called where one has.

        Raises:
            InvalidInputError: an embedding is zero, or of another width.
        """
        config, unit = self.config, self._score_unit(detections)
        usable = self._rows(detections, config.lowest_conf * unit)
        boxes, scores, labels = detections.boxes, detections.scores, detections.labels
        if len(usable) < len(detections):
            boxes, scores, labels = boxes[usable], scores[usable], labels[usable]
        if config.relative_conf:
            scores = np.minimum(scores / unit, 1)
        high = None
        if config.low_conf < config.high_conf:
            sure = (scores >= config.high_conf).nonzero()[0]
            high = sure if len(sure) < len(scores) else None
        corners = boxes.astype(np.float64)
        if len(corners) and max(corners.max(), -corners.min()) > MAX_COORDINATE:
            raise InvalidInputError(
                f"boxes must lie within {MAX_COORDINATE:g} pixels of the origin, got {np.abs(corners).max():g}; "
                "pass pixels of the frame, and drop rows of overflowed numbers"
            )
        embeddings, unseen = self._embeddings(detections, usable, high, width, spared)
        return usable, Found(xyxy_to_cxcyah(corners), corners, scores, labels, embeddings, high, unseen)

    def compared_rows(self, detections: Detections) -> Indices:
        """Return the rows whose embeddings will be looked at; the others need none."""
        if not self.config.appearance:
            return np.zeros(0, np.intp)
        return self._rows(detections, self.config.high_conf * self._score_unit(detections))

    def learn(self, matched: FloatArray) -> None:
        """Follow the (upper) median of the scores [K] of matched detections; a frame without any says nothing."""
        if self.config.relative_conf and len(matched):
            median = float(np.sort(matched)[len(matched) // 2])
            known = median if math.isnan(self.typical_score) else self.typical_score
            self.typical_score = known + SCORE_RATE * (median - known)

    @staticmethod
    def _rows(detections: Detections, lowest: float) -> Indices:
        """Return the numbers of rows with an area and a sufficient score."""
        boxes = detections.boxes
        usable = detections.scores >= lowest
        usable &= boxes[:, 2] > boxes[:, 0]
        usable &= boxes[:, 3] > boxes[:, 1]
        return usable.nonzero()[0]

    def _score_unit(self, detections: Detections) -> float:
        """Return the score that the limits are shares of; 1 when they are meant as they stand."""
        if not self.config.relative_conf:
            return 1.0
        unit = self.typical_score
        if math.isnan(unit) and len(detections):
            # Nothing was matched yet: of the first detections, those of half the best score and more are real.
            scores = detections.scores
            unit = float(scores[scores >= scores.max() / 2].mean()) if scores.max() > 0 else 1.0
        # Scores of foreign detectors may be negative, and those are no unit.
        return unit if unit > 0 else 1.0

    def _embeddings(
        self,
        detections: Detections,
        usable: Indices,
        high: Indices | None,
        width: int | None,
        spared: Spared,
    ) -> tuple[FloatArray | None, npt.NDArray[np.bool_] | None]:
        """Return unit embeddings of the usable rows (only those that were looked at are filled), or None without any;
        and which sure rows were not looked at, or None when all were."""
        embeddings = detections.embeddings
        if embeddings is None or not self.config.appearance or not len(usable):
            return None, None
        if width is not None and embeddings.shape[1] != width:
            raise InvalidInputError(
                f"embeddings must keep the width {width} of this tracker's first frame, got {embeddings.shape[1]}; "
                "use one embedder a stream, or call reset()",
                expected=str(width),
                actual=str(embeddings.shape[1]),
            )
        if len(usable) < len(detections):
            embeddings = embeddings[usable]
        looked = np.ones(len(usable), bool)
        if high is not None:
            looked[:] = False
            looked[high] = True
        unseen = None
        missing = looked & ~embeddings.any(axis=1)
        if missing.any() and (allowed := spared()) is not None:
            unseen = missing & allowed[usable]
            looked &= ~unseen
        if looked.all():
            return unit_rows(embeddings), unseen
        units = np.zeros((len(usable), embeddings.shape[1]), np.float32)
        units[looked] = unit_rows(embeddings[looked])
        return units, unseen


def checked_motion(camera_motion: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64] | None:
    """Return a finite float64 [2, 3] matrix that keeps the picture's orientation, or None; raises otherwise."""
    if camera_motion is None:
        return None
    motion = np.asarray(camera_motion, np.float64)
    fits = motion.shape == (2, 3) and np.isfinite(motion).all() and np.abs(motion).max() < MAX_COORDINATE
    if not fits or not MIN_SCALE**2 <= np.linalg.det(motion[:, :2]) <= MAX_SCALE**2:
        raise InvalidInputError(
            "camera_motion must be a finite [2, 3] matrix that neither mirrors nor scales by more than a thousand, got "
            f"{motion.tolist()}; leave it out where the motion is unknown"
        )
    return motion
