"""Settings of the tracking stage, each with its unit, range and the paper's value; loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vision.errors import ConfigError

CHI2_95_4DOF = 9.4877
"""The 0.95 quantile of the chi-square distribution with 4 degrees of freedom (Wojke 2017, section 2.2)."""

INTEGERS = (("max_age", 0), ("n_init", 1), ("appearance_every", 1), ("gallery_size", 1), ("output_coasting", 0))
"""Settings that are counts, and the least of each."""

CHOICES: dict[str, tuple[str, ...]] = {
    "fusion": ("appearance", "weighted", "minimum"),
    "camera_motion": ("none", "flow", "ecc"),
    "output_boxes": ("filtered", "detected"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How detections become tracks. Defaults are DeepSORT's (Wojke 2017); ``PRESETS`` holds other papers' trackers.

    Attributes:
        max_age: frames a confirmed track lives without a detection, >= 0. DeepSORT: 30.
        max_age_s: the same in seconds, >= 0; takes the place of ``max_age`` where frames have timestamps. 0 is off.
        n_init: detections in consecutive frames before a track is confirmed, >= 1. DeepSORT: 3.
        confirm_first: confirm tracks of the first frame at once (ByteTrack), so that a sequence begins with tracks.
        appearance: use the embeddings that detections carry; False tracks by motion and overlap alone.
        appearance_every: how often an object that stands apart, where its track was going, is looked at: every so many
            frames, >= 1. Its embedding then need not be computed in the others, which is what most of the time of a
            frame with many people goes into; objects near each other are looked at always. DeepSORT: 1, all of them.
        gallery_size: latest embeddings kept for each track, >= 1. DeepSORT: 100. Memory: size x width x 4 bytes
            a track.
        ema: weight of the past in one running mean embedding a track, in [0, 1); 0 keeps the gallery instead.
            StrongSORT, BoT-SORT: 0.9.
        max_cosine_distance: largest appearance distance of a match, in [0, 2]. It belongs to the embedder: the default
            is for reid-lite, where 0.4 lets 0.2 % of pairs of different people in one camera pass
            (docs/appearance.md). DeepSORT: 0.2 with its own network; it would refuse 96 % of reid-lite's true pairs.
        fusion: how appearance and motion make one cost: "appearance" alone behind the motion gate (DeepSORT),
            "weighted" adds the Mahalanobis distance (StrongSORT, section 3.3), "minimum" takes the smaller of 1 - IoU
            and half the appearance distance (BoT-SORT, section 3.3).
        motion_weight: share of the Mahalanobis distance in "weighted", in [0, 1]. StrongSORT: 0.02.
        proximity: "minimum" looks at appearance only where 1 - IoU is at most this, in [0, 1]. BoT-SORT: 0.5.
        cascade: tracks seen more recently choose first (DeepSORT); False assigns all at once.
        equal_start: tentative tracks compete with confirmed ones in the first stage (SORT), instead of after them.
        gate: largest squared Mahalanobis distance of a match, >= 0. DeepSORT: 9.4877, the 0.95 quantile for 4
            dimensions. 0 asks the boxes to overlap instead.
        max_iou_distance: largest 1 - IoU of a match by overlap, in [0, 1]. SORT, DeepSORT: 0.7.
        fuse_score: multiply the IoU with the detection's score, so that sure detections are matched first (ByteTrack).
        height_iou: multiply the IoU with the overlap of the boxes' vertical extents, which tells people at different
            distances apart (Hybrid-SORT: Yang 2024, section 3.3).
        lost_penalty: added to the cost of a match by overlap, in [0, 1], for tracks not seen in the last frame: where
            somebody is expected to be says less than where somebody just stood.
        high_conf: lowest score of a detection that takes part in the first stages; any finite number.
        low_conf: detections of a score from here to ``high_conf`` only continue tracks that nothing else does;
            any finite number. At ``high_conf`` or above there are none. ByteTrack: 0.1 with high_conf 0.6.
        low_iou_distance: largest 1 - IoU of such a match, in [0, 1]. ByteTrack: 0.5.
        birth_conf: lowest score that begins a track; below ``high_conf`` it has no effect. ByteTrack: high_conf + 0.1.
        relative_conf: take the score limits as shares of the typical score of this stream's matched detections: one set
            of limits then serves detectors whose scores mean different things.
        birth_overlap: no track begins on a detection whose IoU with a matched one is above this, in [0, 1]; 1 is off.
        momentum: weight of the agreement of a match with the track's direction of motion, >= 0. OC-SORT: 0.2.
        reupdate: when a lost track is found, replay its filter along the straight line of the gap (OC-SORT 3.2).
        recovery: match what is left with the last observed boxes instead of predicted ones (OC-SORT, section 3.3).
        hold_size: a track that was not seen keeps its size; only its place is predicted on (BoT-SORT).
        shared_motion: move all tracks by the displacement that most sure matches share, which is the camera's.
        nsa: scale the measurement noise by 1 - score (NSA Kalman filter: Du 2021; StrongSORT, section 3.3).
        std_weight_position: standard deviation of position noise in box heights, > 0. SORT and DeepSORT: 1/20.
        std_weight_velocity: standard deviation of velocity noise in box heights a frame, > 0. DeepSORT: 1/160.
        camera_motion: move the tracks with the picture before matching: "flow" follows corners (sparse optical flow),
            "ecc" aligns whole pictures (Evangelidis 2008), "none" takes the camera for still.
        per_class: match only detections with the track's label; False lets the label follow the last detection.
        output_boxes: "filtered" reports the filter's boxes, "detected" those of the matched detections (OC-SORT).
        output_tentative: report tracks that are not confirmed yet. DeepSORT: False.
        output_coasting: frames without a detection for which a track is still reported, where predicted, >= 0.
        nominal_fps: frames a second that a time step of 1 stands for; needs timestamps, >= 0. 0 steps by frame numbers.
    """

    max_age: int = 30
    max_age_s: float = 0.0
    n_init: int = 3
    confirm_first: bool = False
    appearance: bool = True
    appearance_every: int = 5
    gallery_size: int = 100
    ema: float = 0.0
    max_cosine_distance: float = 0.4
    fusion: Literal["appearance", "weighted", "minimum"] = "appearance"
    motion_weight: float = 0.02
    proximity: float = 0.5
    cascade: bool = True
    equal_start: bool = False
    gate: float = CHI2_95_4DOF
    max_iou_distance: float = 0.7
    fuse_score: bool = False
    height_iou: bool = False
    lost_penalty: float = 0.0
    high_conf: float = 0.3
    low_conf: float = 1.0
    low_iou_distance: float = 0.5
    birth_conf: float = 0.0
    relative_conf: bool = False
    birth_overlap: float = 1.0
    momentum: float = 0.0
    reupdate: bool = False
    recovery: bool = False
    hold_size: bool = False
    shared_motion: bool = False
    nsa: bool = False
    std_weight_position: float = 1 / 20
    std_weight_velocity: float = 1 / 160
    camera_motion: Literal["none", "flow", "ecc"] = "none"
    per_class: bool = True
    output_boxes: Literal["filtered", "detected"] = "filtered"
    output_tentative: bool = False
    output_coasting: int = 0
    nominal_fps: float = 0.0

    def __post_init__(self) -> None:
        for name, lowest in INTEGERS:
            self._check(name, getattr(self, name) >= lowest, f">= {lowest}")
        self._check("max_cosine_distance", 0 <= self.max_cosine_distance <= 2, "in [0, 2]")
        # Written as comparisons that NaN fails.
        for name in (
            "max_iou_distance",
            "low_iou_distance",
            "proximity",
            "motion_weight",
            "birth_overlap",
            "lost_penalty",
        ):
            self._check(name, 0 <= getattr(self, name) <= 1, "in [0, 1]")
        self._check("ema", 0 <= self.ema < 1, "in [0, 1)")
        for name in ("std_weight_position", "std_weight_velocity"):
            self._check(name, 0 < getattr(self, name) < math.inf, "> 0 and finite")
        for name in ("high_conf", "low_conf", "birth_conf"):
            self._check(name, math.isfinite(getattr(self, name)), "finite")
        for name in ("gate", "momentum", "max_age_s", "nominal_fps"):
            self._check(name, 0 <= getattr(self, name) < math.inf, ">= 0 and finite")
        for name, known in CHOICES.items():
            self._check(name, getattr(self, name) in known, "one of " + ", ".join(known))

    def _check(self, name: str, holds: bool, expected: str) -> None:
        """Raise ConfigError unless ``holds``."""
        if not holds:
            default = type(self).__dataclass_fields__[name].default
            raise ConfigError(
                f"tracking.{name} must be {expected}, got {getattr(self, name)}; {default} is the default",
                expected=expected,
                actual=str(getattr(self, name)),
            )

    @property
    def lowest_conf(self) -> float:
        """The lowest score of a detection that the tracker looks at; a detector should keep no fewer."""
        return min(self.high_conf, self.low_conf)


# Each as its paper describes it, on our filter; parameters that a paper leaves to its detector keep our default.
PRESETS: dict[str, TrackerConfig] = {
    "deepsort": TrackerConfig(),
    # Bewley 2016: one assignment by overlap over all tracks, which end at the second frame without a detection.
    "sort": TrackerConfig(appearance=False, max_age=1, cascade=False, equal_start=True, gate=0.0),
    # Zhang 2022 (ECCV), section 3.
    "bytetrack": TrackerConfig(
        appearance=False,
        cascade=False,
        gate=0.0,
        n_init=2,
        confirm_first=True,
        max_iou_distance=0.8,
        fuse_score=True,
        high_conf=0.6,
        low_conf=0.1,
        birth_conf=0.7,
    ),
    # Cao 2023 (CVPR), sections 3.2 to 4.1.
    "ocsort": TrackerConfig(
        appearance=False,
        cascade=False,
        equal_start=True,
        gate=0.0,
        confirm_first=True,
        high_conf=0.6,
        momentum=0.2,
        reupdate=True,
        recovery=True,
        output_boxes="detected",
    ),
    # Du 2023 (IEEE TMM), section 3.3: all assigned at once, NSA filter, running mean of features, camera by ECC.
    "strongsort": TrackerConfig(
        cascade=False, ema=0.9, fusion="weighted", nsa=True, camera_motion="ecc", high_conf=0.6
    ),
    # Aharon 2022 (arXiv 2206.14651), sections 3.2 and 3.3.
    "botsort": TrackerConfig(
        cascade=False,
        gate=0.0,
        n_init=2,
        confirm_first=True,
        max_iou_distance=0.8,
        fuse_score=True,
        high_conf=0.6,
        low_conf=0.1,
        birth_conf=0.7,
        ema=0.9,
        fusion="minimum",
        camera_motion="flow",
    ),
    # What did best over the sequences of docs/presets.md together; each term is there because most of them gain by it.
    # How it uses embeddings was chosen on two sequences alone.
    "stride32": TrackerConfig(
        cascade=False,
        gate=0.0,
        max_age=45,
        n_init=2,
        confirm_first=True,
        max_iou_distance=0.8,
        height_iou=True,
        lost_penalty=0.15,
        relative_conf=True,
        high_conf=0.8,
        low_conf=0.3,
        low_iou_distance=0.35,
        birth_conf=0.88,
        momentum=0.05,
        hold_size=True,
        shared_motion=True,
        ema=0.9,
    ),
}
