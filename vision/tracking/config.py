"""Settings of the tracking stage, each with its unit, range and the paper's value; loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vision.errors import ConfigError

CHI2_95_4DOF = 9.4877
"""The 0.95 quantile of the chi-square distribution with 4 degrees of freedom (Wojke 2017, section 2.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How detections become tracks (DeepSORT: Wojke 2017; SORT: Bewley 2016).

    Attributes:
        max_age: frames a confirmed track lives without a detection, >= 0. Paper: 30.
        n_init: detections in consecutive frames before a track is confirmed, >= 1. Paper: 3.
        appearance: use the embeddings that detections carry; False tracks by motion and overlap alone.
        gallery_size: latest embeddings kept for each track, >= 1. Paper: 100. Memory: size x width x 4 bytes a track.
        max_cosine_distance: largest appearance distance of a match, in [0, 2]. It belongs to the embedder: the default
            is for reid-lite, where 0.5 lets 0.2 % of pairs of different people in one camera pass
            (docs/tracking.md). Paper: 0.2 with its own network; it would refuse 95 % of reid-lite's true pairs.
        gate: largest squared Mahalanobis distance of a match, > 0. Paper: 9.4877, the 0.95 quantile for 4 dimensions.
        max_iou_distance: largest 1 - IoU of a match in the overlap stage, in [0, 1]. Paper: 0.7.
        high_conf: lowest score of a detection that may take part; any finite number. Paper: 0.3.
        std_weight_position: standard deviation of position noise in box heights, > 0. SORT and DeepSORT: 1/20.
        std_weight_velocity: standard deviation of velocity noise in box heights a frame, > 0. DeepSORT: 1/160.
        per_class: match only detections with the track's label; False lets the label follow the last detection.
        output_tentative: report tracks that are not confirmed yet. Paper: False.
        output_coasting: frames without a detection for which a track is still reported, where predicted, >= 0.
        nominal_fps: frames a second that a time step of 1 stands for; needs timestamps, >= 0. 0 steps by 1 an update.
    """

    max_age: int = 30
    n_init: int = 3
    appearance: bool = True
    gallery_size: int = 100
    max_cosine_distance: float = 0.5
    gate: float = CHI2_95_4DOF
    max_iou_distance: float = 0.7
    high_conf: float = 0.3
    std_weight_position: float = 1 / 20
    std_weight_velocity: float = 1 / 160
    per_class: bool = True
    output_tentative: bool = False
    output_coasting: int = 0
    nominal_fps: float = 0.0

    def __post_init__(self) -> None:
        for name, lowest in (("max_age", 0), ("n_init", 1), ("gallery_size", 1), ("output_coasting", 0)):
            self._check(name, getattr(self, name) >= lowest, f">= {lowest}")
        self._check("max_cosine_distance", 0 <= self.max_cosine_distance <= 2, "in [0, 2]")
        self._check("max_iou_distance", 0 <= self.max_iou_distance <= 1, "in [0, 1]")
        # Written as comparisons that NaN fails.
        for name in ("gate", "std_weight_position", "std_weight_velocity"):
            self._check(name, 0 < getattr(self, name) < math.inf, "> 0 and finite")
        self._check("high_conf", math.isfinite(self.high_conf), "finite")
        self._check("nominal_fps", 0 <= self.nominal_fps < math.inf, ">= 0 and finite")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        """Raise ConfigError unless ``holds``."""
        if not holds:
            default = type(self).__dataclass_fields__[name].default
            raise ConfigError(
                f"tracking.{name} must be {expected}, got {getattr(self, name)}; {default} is the default",
                expected=expected,
                actual=str(getattr(self, name)),
            )


# SORT ends a track at the second frame without a detection (T_lost = 1) and looks at no pictures.
PRESETS: dict[str, TrackerConfig] = {
    "deepsort": TrackerConfig(),
    "sort": TrackerConfig(appearance=False, max_age=1),
}
