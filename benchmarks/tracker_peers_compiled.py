"""Peers whose work is done in Rust, C++ or Cython: rows that Python code is not expected to beat."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from tracker_peers import FRAME_RATE, Steps, Tracked, collect, read_rows, rows_xyxys

from vision.types import Detections


def pyxtrackers(name: str, **parameters: Any) -> Steps:
    """One of the Cython trackers of pyxtrackers."""
    import pyxtrackers as package

    tracker = getattr(package, name)(**parameters)
    return Steps(rows_xyxys, tracker.update, read_rows)


def ioutrack(name: str, **parameters: Any) -> Steps:
    """One of the Rust trackers of ioutrack."""
    import ioutrack as package

    tracker = getattr(package, name)(**parameters)
    return Steps(rows_xyxys, lambda rows: tracker.update(rows, return_all=False), read_rows)


def edgefirst(**parameters: Any) -> Steps:
    """ByteTrack of edgefirst-tracker (Rust), which counts time in nanoseconds."""
    from edgefirst.tracker import ByteTrack

    tracker = ByteTrack(**parameters)
    clock = itertools.count(0, 1_000_000_000 // FRAME_RATE)

    def read(tracks: Any) -> Tracked:
        return collect([(track.uuid, track.tracked_location) for track in tracks if track is not None])

    return Steps(
        lambda found: (found.boxes, found.scores, found.labels.astype(np.uintp), next(clock)),
        lambda given: tracker.update(*given),
        read,
    )


def similari_sort(threshold: float, **parameters: Any) -> Steps:
    """Sort of Similari (Rust) on overlap."""
    from similari import BoundingBox, PositionalMetricType, Sort

    tracker = Sort(method=PositionalMetricType.iou(threshold=threshold), **parameters)

    def prepare(detections: Detections) -> list[Any]:
        return [(BoundingBox.new_with_confidence(*row).as_xyaah(), 0) for row in _similari_rows(detections)]

    def update(found: list[Any]) -> Any:
        tracks = tracker.predict(found)
        # Ended tracks pile up until they are cleared; its documentation asks for this call.
        tracker.clear_wasted()
        return tracks

    return Steps(prepare, update, _read_similari)


def similari_visual(shards: int, similarity: float, iou: float, max_idle_epochs: int, observations: int) -> Steps:
    """VisualSort of Similari (Rust), its DeepSORT; ``similarity`` is the lowest cosine of a match, not a distance."""
    from similari import (
        BoundingBox,
        PositionalMetricType,
        VisualSort,
        VisualSortMetricType,
        VisualSortObservation,
        VisualSortObservationSet,
        VisualSortOptions,
    )

    options = VisualSortOptions()
    options.visual_metric(VisualSortMetricType.cosine(similarity))
    options.positional_metric(PositionalMetricType.iou(threshold=iou))
    options.max_idle_epochs(max_idle_epochs)
    options.kept_history_length(observations)
    options.visual_max_observations(observations)
    options.visual_min_votes(1)
    tracker = VisualSort(shards=shards, opts=options)

    def prepare(detections: Detections) -> Any:
        found = VisualSortObservationSet()
        vectors = np.zeros((len(detections), 0)) if detections.embeddings is None else detections.embeddings
        for row, vector in zip(_similari_rows(detections), vectors.tolist(), strict=True):
            box = BoundingBox.new_with_confidence(*row).as_xyaah()
            found.add(VisualSortObservation(vector, 1.0, box, None))
        return found

    def update(found: Any) -> Any:
        tracks = tracker.predict(found)
        tracker.clear_wasted()
        return tracks

    return Steps(prepare, update, _read_similari)


def _similari_rows(detections: Detections) -> list[list[float]]:
    """Return left, top, width, height and confidence of each detection."""
    size = detections.boxes[:, 2:] - detections.boxes[:, :2]
    return np.column_stack([detections.boxes[:, :2], size, detections.scores]).astype(float).tolist()


def _read_similari(tracks: Any) -> Tracked:
    pairs = []
    for track in tracks:
        box = track.predicted_bbox.as_ltwh()
        pairs.append((track.id, (box.left, box.top, box.left + box.width, box.top + box.height)))
    return collect(pairs)


def visiontrack_cpp(**parameters: Any) -> Steps:
    """ByteTracker of visiontrack-cpp."""
    from visiontrack_cpp import ByteTracker, TrackerConfig

    tracker = ByteTracker(TrackerConfig(**parameters))

    def prepare(detections: Detections) -> tuple[Any, ...]:
        return (
            detections.boxes.astype(np.float64),
            detections.scores.astype(np.float64),
            detections.labels,
            None if detections.embeddings is None else detections.embeddings.astype(np.float64),
        )

    return Steps(prepare, lambda given: tracker.update(*given), lambda result: (result[0].tolist(), result[1]))
