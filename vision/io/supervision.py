"""Our values as supervision's ``Detections`` and back: other people's detectors in, their annotators and zones out.

supervision is imported at the first call, because that takes a second that a run without it need not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vision.errors import InvalidInputError
from vision.io.writers.base import class_name, reported_tracks
from vision.types import Detections, FrameResult, Tracks, TrackState

CLASS_NAME = "class_name"  # the key of supervision.config.CLASS_NAME_DATA_FIELD
EMBEDDINGS = "embeddings"
# What only our tracks have; supervision selects rows of ``data`` along with the boxes.
TRACK_DATA = ("states", "ages", "time_since_update", "detection_index")


def to_supervision(value: Detections | Tracks | FrameResult, class_names: Sequence[str] = ()) -> Any:
    """Return a ``supervision.Detections`` with one row an object, in the order of ``value``.

    ``xyxy`` is float32 [N, 4] pixels, ``confidence`` float32 [N] the scores, ``class_id`` int64 [N] the labels, and
    ``tracker_id`` int64 [N] the ids of tracks, or None. ``data`` holds ``class_name`` [N] where names are given,
    ``embeddings`` float32 [N, D] where detections carry them, and of tracks ``states``, ``ages``,
    ``time_since_update`` and ``detection_index``; the functions below read them back. Arrays are copies.

    Args:
        value: detections, tracks (all of them), or the result of a frame: its tracks as writers and drawings show them
            (confirmed and seen in this frame) when a tracker ran, else its detections.
        class_names: name of each label; a label beyond them has its number as name, none at all leave the key out.

    Raises:
        InvalidInputError: a frame result with neither tracks nor detections.
    """
    import supervision as sv

    objects = _objects_of(value)
    data: dict[str, Any] = {}
    names = tuple(class_names)
    if names:
        data[CLASS_NAME] = np.array([class_name(names, label) for label in objects.labels.tolist()], dtype=np.str_)
    if isinstance(objects, Tracks):
        data |= {name: getattr(objects, name).copy() for name in TRACK_DATA}
    elif objects.embeddings is not None:
        data[EMBEDDINGS] = objects.embeddings.copy()
    return sv.Detections(
        xyxy=objects.boxes.copy(),
        confidence=objects.scores.copy(),
        class_id=objects.labels.copy(),
        tracker_id=objects.ids.copy() if isinstance(objects, Tracks) else None,
        data=data,
    )


def from_supervision(detections: Any) -> Detections:
    """Return a ``supervision.Detections`` as ours, in its order: what ``Tracker.update`` takes.

    A missing ``confidence`` is a score of 1, a missing ``class_id`` label 0; ``data["embeddings"]`` [N, D] comes along.
    Masks, oriented corners, tracker ids, class names and other data have no place in Detections and are left behind.

    Raises:
        InvalidInputError: boxes that are not finite or not x1 <= x2, y1 <= y2, scores that are not finite, class ids
            below 0, or embeddings of another length; or a value that is no ``supervision.Detections``.
    """
    boxes, scores, labels = _columns_of(detections)
    embeddings = detections.data.get(EMBEDDINGS)
    # Selecting no rows from a list of embeddings loses their width, and there is nothing to keep then.
    has_embeddings = embeddings is not None and np.ndim(embeddings) == 2
    return Detections(boxes, scores, labels, np.array(embeddings, np.float32) if has_embeddings else None)


def tracks_from_supervision(detections: Any) -> Tracks:
    """Return tracked ``supervision.Detections`` as our Tracks: another tracker's work for our writers and counters.

    ``tracker_id`` gives the ids. Missing data of ``to_supervision`` means confirmed tracks, seen in this frame, of
    unknown age (0), matched to the detection of their own row.

    Raises:
        InvalidInputError: no ``tracker_id``, one that occurs twice or is below 0 (supervision's mark of an object that
            is not tracked yet: select ``detections[detections.tracker_id >= 0]``), or what from_supervision refuses.
    """
    boxes, scores, labels = _columns_of(detections)
    n = len(boxes)
    ids = detections.tracker_id
    if ids is None and n:
        raise InvalidInputError(
            f"tracks need a tracker_id for each of {n} detections, got None; run a tracker first, or use "
            "from_supervision"
        )
    ids = np.zeros(0, np.int64) if ids is None else np.array(ids, np.int64)
    if n and ids.min() < 0:
        raise InvalidInputError(
            f"tracks need a tracker_id >= 0, got {ids.min()}; select detections[detections.tracker_id >= 0]"
        )
    absent = {
        "states": np.full(n, int(TrackState.CONFIRMED)),
        "ages": np.zeros(n, np.int64),
        "time_since_update": np.zeros(n, np.int64),
        "detection_index": np.arange(n),
    }
    extra = {name: np.array(detections.data.get(name, absent[name]), np.int64) for name in TRACK_DATA}
    return Tracks(boxes=boxes, ids=ids, scores=scores, labels=labels, **extra)


def _objects_of(value: Detections | Tracks | FrameResult) -> Detections | Tracks:
    if not isinstance(value, FrameResult):
        return value
    if value.tracks is not None:
        return reported_tracks(value.tracks)
    if value.detections is not None:
        return value.detections
    raise InvalidInputError(
        "supervision's Detections need tracks or detections, got a frame result with neither; run track or detect"
    )


def _columns_of(detections: Any) -> tuple[Any, Any, Any]:
    """Return copies of boxes, scores and labels, with defaults for what is None."""
    if not all(hasattr(detections, name) for name in ("xyxy", "confidence", "class_id", "tracker_id", "data")):
        raise InvalidInputError(
            f"expected a supervision.Detections, got {type(detections).__name__}; convert with its from_... methods"
        )
    n = len(detections.xyxy)
    scores = np.ones(n, np.float32) if detections.confidence is None else np.array(detections.confidence, np.float32)
    labels = np.zeros(n, np.int64) if detections.class_id is None else np.array(detections.class_id, np.int64)
    if len(labels) and labels.min() < 0:
        raise InvalidInputError(f"class_id must be >= 0, got {labels.min()}; map unknown classes first")
    return np.array(detections.xyxy, np.float32), scores, labels
