"""Other packages' trackers behind one shape, to be timed (bench_tracker.py) and scored (eval_peers.py) beside ours.

Each peer runs with the parameters its documentation or paper gives; where a class has defaults, those. What it needs as
input is made before the clock starts and what it returns is read after it stops: only its own update is measured.
Licences are those in the packages' metadata; peers under a copyleft licence are left out.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.types import Detections

Tracked = tuple[list[Hashable], npt.NDArray[Any]]
"""The names of the tracks reported in a frame [M] and their boxes [M, 4] xyxy."""

FRAME_RATE = 30


@dataclass(frozen=True, slots=True)
class Steps:
    """One tracker at work: ``read(update(prepare(detections)))`` is a frame, and only ``update`` is timed."""

    prepare: Callable[[Detections], Any]
    update: Callable[[Any], Any]
    read: Callable[[Any], Tracked]


@dataclass(frozen=True, slots=True)
class Peer:
    """A tracker of another package.

    Attributes:
        name: its row in the tables.
        package: distribution that holds it, as pip names it.
        licence: of that distribution.
        build: makes a fresh tracker with ``parameters``; raises ImportError where the package is absent.
        parameters: all that is passed to its constructor.
        language: of the code that does the work; compared with ours are those in Python.
        appearance: it is given embeddings.
        note: what a reader of its figures must know.
    """

    name: str
    package: str
    licence: str
    build: Callable[..., Steps]
    parameters: dict[str, Any] = field(default_factory=dict)
    language: str = "Python"
    appearance: bool = False
    note: str = ""


def rows_xyxys(detections: Detections) -> npt.NDArray[np.float64]:
    """Return [N, 5] rows x1, y1, x2, y2, score."""
    return np.column_stack([detections.boxes, detections.scores]).astype(np.float64)


def boxes_ltwh(detections: Detections) -> npt.NDArray[np.float32]:
    """Return [N, 4] left, top, width, height."""
    return np.column_stack([detections.boxes[:, :2], detections.boxes[:, 2:] - detections.boxes[:, :2]])


def read_rows(rows: Any) -> Tracked:
    """Return what [M, 5 or more] rows x1, y1, x2, y2, id say."""
    if not len(rows):
        return [], np.zeros((0, 4))
    table = np.asarray(rows, np.float64)
    return table[:, 4].astype(int).tolist(), table[:, :4]


def collect(pairs: list[tuple[Hashable, Any]]) -> Tracked:
    """Return pairs of name and box as names and one array."""
    return [name for name, _ in pairs], np.array([box for _, box in pairs], np.float64).reshape(-1, 4)


def deep_sort_realtime(embeddings: bool = True, **parameters: Any) -> Steps:
    """DeepSort of deep-sort-realtime with embeddings given; without them, each detection carries the same one."""
    if "pkg_resources" not in sys.modules:
        # It only asks pkg_resources for the path of weights that we do not use, and setuptools >= 81 ships none.
        sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
        sys.modules["pkg_resources"].resource_filename = lambda package, name: name  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deep_sort_realtime.deepsort_tracker import DeepSort
    tracker = DeepSort(embedder=None, **parameters)

    def prepare(detections: Detections) -> tuple[Any, ...]:
        pairs = zip(boxes_ltwh(detections).tolist(), detections.scores.tolist(), strict=True)
        given = detections.embeddings if embeddings else None
        return [(*pair, 0) for pair in pairs], list(np.ones((len(detections), 2)) if given is None else given)

    def read(tracks: Any) -> Tracked:
        seen = [track for track in tracks if track.is_confirmed() and track.time_since_update == 0]
        return collect([(track.track_id, track.to_ltrb()) for track in seen])

    return Steps(prepare, lambda given: tracker.update_tracks(given[0], embeds=given[1]), read)


def roboflow(name: str, **parameters: Any) -> Steps:
    """One of roboflow's trackers; tracks that are not confirmed carry the id -1."""
    import supervision
    import trackers

    tracker = getattr(trackers, name)(**parameters)
    return Steps(_supervision_detections(supervision.Detections), tracker.update, _read_supervision)


def supervision_bytetrack(**parameters: Any) -> Steps:
    """ByteTrack as supervision had it until 0.27."""
    import supervision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later versions announce its removal
        tracker = supervision.ByteTrack(**parameters)
    return Steps(_supervision_detections(supervision.Detections), tracker.update_with_detections, _read_supervision)


def supertracker(**parameters: Any) -> Steps:
    """ByteTrack of supertracker, which has supervision's interface."""
    import supertracker as package

    tracker = package.ByteTrack(**parameters)
    return Steps(_supervision_detections(package.Detections), tracker.update_with_detections, _read_supervision)


def _supervision_detections(kind: Any) -> Callable[[Detections], Any]:
    return lambda found: kind(
        xyxy=found.boxes.astype(np.float64), confidence=found.scores.astype(np.float64), class_id=found.labels.copy()
    )


def _read_supervision(detections: Any) -> Tracked:
    ids = detections.tracker_id
    if ids is None or not len(ids):
        return [], np.zeros((0, 4))
    named = np.asarray(ids) >= 0
    return np.asarray(ids)[named].tolist(), detections.xyxy[named]


def norfair(**parameters: Any) -> Steps:
    """Norfair on the two corners of each box; it also reports objects that it has lost for a moment."""
    from norfair import Detection, Tracker

    tracker = Tracker(**parameters)

    def prepare(detections: Detections) -> list[Any]:
        corners = detections.boxes.reshape(-1, 2, 2).astype(np.float64)
        pairs = zip(corners, detections.scores, strict=True)
        return [Detection(points=points, scores=np.full(2, score)) for points, score in pairs]

    return Steps(
        prepare, tracker.update, lambda objects: collect([(item.id, item.estimate.reshape(4)) for item in objects])
    )


def motpy(min_steps_alive: int, **parameters: Any) -> Steps:
    """MultiObjectTracker of motpy."""
    from motpy import Detection, MultiObjectTracker

    tracker = MultiObjectTracker(**parameters)

    def prepare(detections: Detections) -> list[Any]:
        pairs = zip(detections.boxes.astype(np.float64), detections.scores, strict=True)
        return [Detection(box=box, score=float(score)) for box, score in pairs]

    def update(found: list[Any]) -> Any:
        tracker.step(found)
        return tracker.active_tracks(min_steps_alive=min_steps_alive)

    return Steps(prepare, update, lambda tracks: collect([(track.id, track.box) for track in tracks]))


def motrackers(name: str, **parameters: Any) -> Steps:
    """One of the trackers of multi-object-tracker."""
    import motrackers as package

    tracker = getattr(package, name)(**parameters)

    def read(rows: Any) -> Tracked:
        return collect([(row[1], (row[2], row[3], row[2] + row[4], row[3] + row[5])) for row in rows])

    return Steps(
        lambda found: (boxes_ltwh(found).astype(np.float64), found.scores.astype(np.float64), found.labels.copy()),
        lambda given: tracker.update(*given),
        read,
    )


def cjm_bytetrack(**parameters: Any) -> Steps:
    """BYTETracker of cjm-byte-track; equal picture and input sizes leave the boxes unscaled."""
    from cjm_byte_track.core import BYTETracker

    tracker = BYTETracker(**parameters)
    size = (1080, 1920)
    return Steps(
        rows_xyxys,
        lambda rows: tracker.update(rows, size, size),
        lambda tracks: collect([(track.track_id, track.tlbr) for track in tracks]),
    )


def kadirnar(module: str, name: str, **parameters: Any) -> Steps:
    """The trackers packaged as bytetracker and ocsort, which take torch tensors."""
    import importlib

    import torch

    tracker = getattr(importlib.import_module(module), name)(**parameters)

    def prepare(detections: Detections) -> Any:
        return torch.from_numpy(np.column_stack([rows_xyxys(detections), detections.labels]))

    # An empty frame fails inside both packages.
    return Steps(prepare, lambda rows: tracker.update(rows, None) if len(rows) else [], read_rows)


def visiontrack(**parameters: Any) -> Steps:
    """ByteTracker of visiontrack-mot; with ``w_app`` above 0 it uses embeddings."""
    from visiontrack import ByteTracker, Detection, TrackerConfig

    tracker = ByteTracker(TrackerConfig(**parameters))

    def prepare(detections: Detections) -> list[Any]:
        vectors = [None] * len(detections) if detections.embeddings is None else list(detections.embeddings)
        triples = zip(detections.boxes, detections.scores, vectors, strict=True)
        return [Detection(box, float(score), 0, vector) for box, score, vector in triples]

    return Steps(prepare, tracker.update, lambda tracks: collect([(track.track_id, track.xyxy) for track in tracks]))
