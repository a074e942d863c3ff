"""Which detection continues which track in one frame, stage by stage; what each paper's tracker does differently.

0. Undisputed: detections that were left without an embedding, by overlap with tracks seen in the last frame
   (``vision.tracking.undisputed``).
1. Main stage: confirmed tracks (with ``equal_start`` all) and sure detections. Possible pairs pass the motion gate, or
   overlap; the cost is appearance, overlap, or both; a cascade lets the tracks seen last choose first (Wojke 2017,
   section 2.3), otherwise all are assigned at once.
2. Overlap: what is left of tentative tracks and, after a cascade, of tracks seen in the last frame.
3. Low scores: detections that are unsure alone, but lie where a track was going (Zhang 2022, section 3).
4. Recovery: what is left, by the boxes that were last observed instead of predicted (Cao 2023, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.geometry.boxes import Boxes, cxcyah_to_xyxy
from vision.tracking import kalman
from vision.tracking.assignment import Costs, Indices, Matches, assign, is_unrivalled, match_cascade
from vision.tracking.config import TrackerConfig
from vision.tracking.cost import (
    BoolMatrix,
    appearance_cost,
    height_iou,
    labels_agree,
    overlapping,
    paired_iou,
)
from vision.tracking.gallery import Gallery
from vision.tracking.observation import momentum
from vision.tracking.table import TrackTable
from vision.types import FloatArray, IntArray

IMPOSSIBLE = np.inf


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The detections of a frame that may take part.

    Attributes:
        boxes: float64 [N, 4] cxcyah, heights > 0. corners: the same as xyxy.
        scores: [N], relative to the stream's typical score where the settings say so. labels: [N].
        embeddings: float32 [N, D] unit norm, or None; rows of low scores are never looked at.
        high: rows of the sure detections; None when all are.
        unseen: bool [N], sure detections whose embedding was spared and is zero; None when there are none.
    """

    boxes: Boxes
    corners: Boxes
    scores: npt.NDArray[np.floating[Any]]
    labels: IntArray
    embeddings: FloatArray | None
    high: Indices | None
    unseen: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


class Association:
    """One frame's search for matches; ``run`` returns them and changes nothing.

    Args:
        table: all tracks, predicted to this frame.
        gallery: their embeddings, or None as long as there were none.
        found: the detections.
        config: gates and limits.
        noise: the filter's, for the motion gate.
        frames: frames since the last update; tracks seen then have this time_since_update.
    """

    def __init__(
        self,
        table: TrackTable,
        gallery: Gallery | None,
        found: Found,
        config: TrackerConfig,
        noise: kalman.Noise,
        frames: int = 1,
    ) -> None:
        self.table, self.gallery, self.found = table, gallery, found
        self.config, self.noise, self.frames = config, noise, frames
        # One comparison for all stages; None when every pair may match.
        self.compatible = labels_agree(table["labels"], found.labels) if config.per_class else None
        self.uses_appearance = gallery is not None and found.embeddings is not None
        self.free_tracks = np.ones(len(table), bool)
        self.free_found = np.ones(len(found), bool)
        self.matches: list[Matches] = []

    @cached_property
    def predicted(self) -> Boxes:
        """Predicted boxes float64 [C, 4] xyxy of all tracks; appearance alone never asks for them."""
        return cxcyah_to_xyxy(self.table["mean"][:, :4])

    def run(self) -> Matches:
        """Return matched track rows and detections."""
        table, config = self.table, self.config
        if len(table) and len(self.found):
            if self.found.unseen is not None:
                rows = (table["confirmed"] & self._seen_last()).nonzero()[0]
                spared = self.found.unseen.nonzero()[0]
                self._keep(self._by_overlap(rows, spared, self.predicted, config.max_iou_distance))
            self._keep(self._main_stage())
            rows = self._late_rows()
            if len(rows):
                self._keep(self._by_overlap(rows, self._free_high(), self.predicted, config.max_iou_distance))
            if self.found.high is not None:
                rows = (self.free_tracks & table["confirmed"] & self._seen_last()).nonzero()[0]
                low = self.free_found.copy()
                low[self.found.high] = False
                self._keep(self._by_overlap(rows, low.nonzero()[0], self.predicted, config.low_iou_distance))
            if config.recovery:
                rows = self.free_tracks.nonzero()[0]
                observed = cxcyah_to_xyxy(table["observed"])
                self._keep(self._by_overlap(rows, self._free_high(), observed, config.max_iou_distance))
        if len(self.matches) == 1:
            return self.matches[0]
        nothing = np.zeros(0, np.intp)
        return (
            np.concatenate([nothing, *(match[0] for match in self.matches)]),
            np.concatenate([nothing, *(match[1] for match in self.matches)]),
        )

    def _keep(self, match: Matches) -> None:
        rows, columns = match
        if len(rows):
            self.free_tracks[rows] = False
            self.free_found[columns] = False
            self.matches.append(match)

    def _seen_last(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.table["time_since_update"] == self.frames)

    def _free_high(self) -> Indices:
        free = self.free_found.nonzero()[0]
        if self.found.high is None:
            return free
        return self.found.high[self.free_found[self.found.high]]

    def _late_rows(self) -> Indices:
        """Return the free tracks that the overlap stage is for."""
        table = self.table
        late = ~table["confirmed"]
        if self.config.cascade:
            late |= self._seen_last()
        if self.uses_appearance and self.gallery is not None:
            # A track born in a frame without embeddings has no appearance to compare; overlap is all it has.
            late |= self.gallery.written[: len(table)] == 0
        late &= self.free_tracks
        return late.nonzero()[0]

    # --- the main stage ---

    def _main_stage(self) -> Matches:
        config, table = self.config, self.table
        rows = (self.free_tracks if config.equal_start else self.free_tracks & table["confirmed"]).nonzero()[0]
        high = self.found.high
        columns = np.arange(len(self.found)) if high is None else high
        if self.found.unseen is not None:
            columns = columns[~self.found.unseen[columns]]
        if not len(rows) or not len(columns):
            return rows[:0], columns[:0]
        distance = None
        if config.gate:
            mean, covariance = table["mean"][rows], table["covariance"][rows]
            distance = kalman.gating_distance(mean, covariance, self.found.boxes[columns], self.noise)
            possible = distance <= config.gate
        else:
            possible = overlapping(self.predicted[rows], self.found.corners[columns])
        i, j = self._compatible_pairs(possible, rows, columns)
        rows, columns = rows[i], columns[j]
        weighs = self.uses_appearance and config.fusion == "weighted" and distance is not None
        motion = distance[i, j] * config.motion_weight if weighs and distance is not None else None
        if config.cascade:
            return self._cascade(rows, columns, motion)
        costs = self._costs(rows, columns, motion)
        return self._assign(rows, columns, costs, self._limit())

    def _limit(self) -> float:
        """Return the highest cost of a match in the main stage."""
        by_appearance = self.uses_appearance and self.config.fusion != "minimum"
        return self.config.max_cosine_distance if by_appearance else self.config.max_iou_distance

    def _costs(self, rows: Indices, columns: Indices, motion: Costs | None) -> Costs:
        """Return the cost [P] of pairs in the main stage, rows sorted."""
        config, found = self.config, self.found
        if not self.uses_appearance or config.fusion == "minimum":
            overlap = self._overlap(self.predicted[rows], found.corners[columns])
            costs = 1 - (overlap * found.scores[columns] if config.fuse_score else overlap)
            if config.lost_penalty:
                costs += config.lost_penalty * (self.table["time_since_update"][rows] > self.frames)
        if not self.uses_appearance:
            return costs
        assert self.gallery is not None
        assert found.embeddings is not None
        if config.fusion == "minimum":
            # A pair without a rival is matched by its place alone; looking at it would change nothing.
            settled = is_unrivalled(rows, columns) & (costs <= config.max_iou_distance)
            near = ((overlap >= 1 - config.proximity) & ~settled).nonzero()[0]
            looks = appearance_cost(self.gallery, rows[near], columns[near], found.embeddings, -IMPOSSIBLE)
            alike = (looks <= config.max_cosine_distance).nonzero()[0]
            costs[near[alike]] = np.minimum(costs[near[alike]], looks[alike] / 2)
            return costs
        # Alone, appearance need not be exact for pairs without a rival; as part of a sum it must be.
        enough = config.max_cosine_distance if config.fusion == "appearance" else -IMPOSSIBLE
        looks = appearance_cost(self.gallery, rows, columns, found.embeddings, enough)
        if motion is not None:
            return np.where(
                looks <= config.max_cosine_distance, (1 - config.motion_weight) * looks + motion, IMPOSSIBLE
            )
        return looks

    def _cascade(self, rows: Indices, columns: Indices, motion: Costs | None) -> Matches:
        def cost_of(chosen: Indices) -> Costs:
            return self._costs(rows[chosen], columns[chosen], None if motion is None else motion[chosen])

        return match_cascade(rows, columns, self.table["time_since_update"][rows], cost_of, self._limit())

    # --- the other stages ---

    def _by_overlap(self, rows: Indices, columns: Indices, boxes: Boxes, limit: float) -> Matches:
        """Return matches of tracks ``rows`` at ``boxes`` (of all tracks) with detections ``columns`` by 1 - IoU."""
        if not len(rows) or not len(columns):
            return rows[:0], columns[:0]
        i, j = self._compatible_pairs(overlapping(boxes[rows], self.found.corners[columns]), rows, columns)
        rows, columns = rows[i], columns[j]
        return self._assign(rows, columns, 1 - self._overlap(boxes[rows], self.found.corners[columns]), limit)

    def _overlap(self, boxes_a: Boxes, boxes_b: Boxes) -> Costs:
        """Return the overlap [P] of paired boxes in [0, 1], as the settings measure it."""
        overlap = paired_iou(boxes_a, boxes_b)
        return overlap * height_iou(boxes_a, boxes_b) if self.config.height_iou else overlap

    def _compatible_pairs(self, possible: BoolMatrix, rows: Indices, columns: Indices) -> tuple[Indices, Indices]:
        if self.compatible is not None:
            possible &= self.compatible[rows[:, None], columns]
        i, j = possible.nonzero()
        return i, j

    def _assign(self, rows: Indices, columns: Indices, costs: Costs, limit: float) -> Matches:
        """Return the best choice of pairs, those that keep their direction preferred if the settings say so."""
        if not self.config.momentum:
            return assign(rows, columns, costs, limit)

        def bonus_of(pairs: Indices) -> Costs:
            chosen = columns[pairs]
            agreement = momentum(self.table, rows[pairs], self.found.boxes[chosen, :2], self.found.scores[chosen])
            return agreement * self.config.momentum

        return assign(rows, columns, costs, limit, bonus_of)


def associate(
    table: TrackTable,
    gallery: Gallery | None,
    found: Found,
    config: TrackerConfig,
    noise: kalman.Noise,
    frames: int = 1,
) -> Matches:
    """Return matched track rows and detections, see ``Association``."""
    return Association(table, gallery, found, config, noise, frames).run()
