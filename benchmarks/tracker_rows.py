"""Every row of the tracker benchmark: our presets, and the peers with the parameters they are run with."""

from __future__ import annotations

import dataclasses

import tracker_peers as python
import tracker_peers_compiled as compiled
from tracker_peers import FRAME_RATE, Peer, Steps

from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections

GALLERY = 100
OURS = "stride32"
MOTION_ONLY = ", motion only"

DEEPSORT = {"max_age": 30, "n_init": 3, "nn_budget": GALLERY}
BYTE = {"track_thresh": 0.5, "track_buffer": 30, "match_thresh": 0.8}
RATE = {"frame_rate": FRAME_RATE}
NO_CAMERA = {"enable_cmc": False}
MEAN = "one running mean of embeddings a track instead of a gallery"

# Distribution, licence, and what builds its trackers.
REALTIME = ("deep-sort-realtime", "MIT", python.deep_sort_realtime)
ROBOFLOW = ("trackers", "Apache-2.0", python.roboflow)
KADIRNAR_BYTE = ("bytetracker", "MIT", python.kadirnar)
KADIRNAR_OC = ("ocsort", "MIT", python.kadirnar)
MOTRACKERS = ("motrackers", "MIT", python.motrackers)
VISIONTRACK = ("visiontrack-mot", "MIT", python.visiontrack)
VISIONTRACK_CPP = ("visiontrack-cpp", "MIT", compiled.visiontrack_cpp)
PYXTRACKERS = ("pyxtrackers", "MIT", compiled.pyxtrackers)
IOUTRACK = ("ioutrack", "MIT", compiled.ioutrack)
EDGEFIRST = ("edgefirst-tracker", "Apache-2.0", compiled.edgefirst)
SIMILARI_SORT = ("similari-trackers-rs", "Apache-2.0", compiled.similari_sort)
SIMILARI_VISUAL = ("similari-trackers-rs", "Apache-2.0", compiled.similari_visual)

SIMILARI = {"threshold": 0.3, "shards": 1, "bbox_history": 10, "max_idle_epochs": 2}
# Its cosine is a similarity: 0.8 is a distance of 0.2.
VISUAL = {"shards": 1, "similarity": 0.8, "iou": 0.3, "max_idle_epochs": 30, "observations": GALLERY}
# A negative limit refuses every appearance match, which leaves the overlap stage.
IOU_ONLY = {**DEEPSORT, "max_cosine_distance": -1.0, "embeddings": False}

PEERS: tuple[Peer, ...] = (
    Peer("deep-sort-realtime", *REALTIME, {**DEEPSORT, "max_cosine_distance": 0.2}, appearance=True),
    Peer("deep-sort-realtime, IoU only", *REALTIME, IOU_ONLY, note="a limit that nothing meets ends appearance"),
    Peer("trackers SORT", *ROBOFLOW, {"name": "SORTTracker"}),
    Peer("trackers ByteTrack", *ROBOFLOW, {"name": "ByteTrackTracker"}),
    Peer("trackers OC-SORT", *ROBOFLOW, {"name": "OCSORTTracker"}),
    Peer("trackers BoT-SORT", *ROBOFLOW, {"name": "BoTSORTTracker", **NO_CAMERA}),
    Peer("trackers C-BIoU", *ROBOFLOW, {"name": "CBIoUTracker"}),
    Peer("trackers McByte", *ROBOFLOW, {"name": "McByteTracker", **NO_CAMERA}, note="without masks"),
    Peer("supervision ByteTrack", "supervision", "MIT", python.supervision_bytetrack, RATE),
    Peer("supertracker ByteTrack", "supertracker", "MIT", python.supertracker, RATE),
    Peer("norfair", "norfair", "BSD-3-Clause", python.norfair, {"distance_function": "iou", "distance_threshold": 0.7}),
    Peer("motpy", "motpy", "MIT", python.motpy, {"dt": 1 / FRAME_RATE, "min_steps_alive": 3}),
    Peer("motrackers SORT", *MOTRACKERS, {"name": "SORT", "max_lost": 1, "iou_threshold": 0.3}),
    Peer("motrackers IOU", *MOTRACKERS, {"name": "IOUTracker"}, note="greedy, without a motion model"),
    Peer("cjm-byte-track", "cjm-byte-track", "Apache-2.0", python.cjm_bytetrack, {**RATE, **BYTE}),
    Peer("bytetracker", *KADIRNAR_BYTE, {"module": "bytetracker", "name": "BYTETracker", **RATE, **BYTE}),
    Peer("ocsort", *KADIRNAR_OC, {"module": "ocsort.ocsort", "name": "OCSort", "det_thresh": 0.6}),
    Peer("visiontrack", *VISIONTRACK),
    Peer("visiontrack, appearance", *VISIONTRACK, {"w_app": 0.6}, appearance=True, note=MEAN),
    Peer("visiontrack-cpp", *VISIONTRACK_CPP, {}, "C++"),
    Peer("visiontrack-cpp, appearance", *VISIONTRACK_CPP, {"w_app": 0.6}, "C++", appearance=True, note=MEAN),
    Peer("pyxtrackers SORT", *PYXTRACKERS, {"name": "Sort", "max_age": 1}, "Cython"),
    Peer("pyxtrackers ByteTrack", *PYXTRACKERS, {"name": "BYTETracker", **BYTE}, "Cython"),
    Peer("pyxtrackers OC-SORT", *PYXTRACKERS, {"name": "OCSort", "det_thresh": 0.6}, "Cython"),
    Peer("ioutrack SORT", *IOUTRACK, {"name": "Sort"}, "Rust"),
    Peer("ioutrack ByteTrack", *IOUTRACK, {"name": "ByteTrack", "max_age": 30}, "Rust"),
    Peer("edgefirst ByteTrack", *EDGEFIRST, {}, "Rust"),
    Peer("similari SORT", *SIMILARI_SORT, SIMILARI, "Rust", note="hands its work to a thread"),
    Peer("similari VisualSORT", *SIMILARI_VISUAL, VISUAL, "Rust", appearance=True, note="hands its work to a thread"),
)


def our_rows() -> dict[str, TrackerConfig]:
    """Return our rows: each preset with appearance where it has one, and without."""
    rows: dict[str, TrackerConfig] = {}
    for name, config in PRESETS.items():
        if config.appearance:
            rows[f"{OURS} {name}"] = dataclasses.replace(config, gallery_size=GALLERY)
            rows[f"{OURS} {name}{MOTION_ONLY}"] = dataclasses.replace(config, appearance=False)
        else:
            rows[f"{OURS} {name}"] = config
    return rows


def ours(config: TrackerConfig) -> Steps:
    """Return our tracker in the shape of a peer; it reports confirmed tracks seen in the frame."""
    tracker = Tracker(config)

    def prepare(detections: Detections) -> Detections:
        return detections if config.appearance else dataclasses.replace(detections, embeddings=None)

    return Steps(prepare, tracker.update, lambda tracks: (tracks.ids.tolist(), tracks.boxes))


def all_rows() -> dict[str, Peer]:
    """Return every row by name, ours first, as things that can be built."""
    rows = {
        name: Peer(name, OURS, "Apache-2.0", ours, {"config": config}, appearance=config.appearance)
        for name, config in our_rows().items()
    }
    return rows | {peer.name: peer for peer in PEERS}
