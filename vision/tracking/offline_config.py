"""Settings of the offline stage, which improves finished tracks; loads no numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from vision.errors import ConfigError

CHI2_50_4DOF = 3.3567
"""The median of the chi-square distribution with 4 degrees of freedom."""

GAP_METHODS = ("none", "linear", "gaussian", "rts")


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineConfig:
    """What is done to the tracks of a whole sequence once it is over, in this order: remove, link, smooth, fill.

    Attributes:
        min_length: frames in which a track was seen at least, >= 0; shorter ones are removed. 0 keeps all.
        min_score: lowest mean score of a track, any finite number; None keeps all.
        link: join a track that ends to one that begins later where both can be the same object.
        link_max_gap: frames without a box between the two, from 0; longer ones are not joined.
        link_gate: largest squared Mahalanobis distance of the one's first box from where the filter expects the other,
            > 0, forwards and backwards in time. 3.3567 is the median of chi-square with 4 degrees of freedom: a join
            must fit better than a tracker asks for (9.4877), for nothing later corrects it.
        link_max_distance: largest distance of an extrapolated centre from the box found, and largest difference of
            their heights, in box heights, > 0. The gate alone grows without end over a gap, and is wide for a track
            seen a few times only.
        link_max_cosine_distance: largest cosine distance of the two mean embeddings, in [0, 2]. It belongs to the
            embedder. Not used for tracks without embeddings.
        rts: replace each seen box by the Rauch-Tung-Striebel smoother's, which knows the frames after it as well.
        gaps: how frames are filled in which a track was not seen: "linear" on a straight line between the boxes around
            them; "gaussian" by Gaussian process regression, which smooths the seen boxes too (StrongSORT, section 3.4);
            "rts" where the smoother puts them; "none" leaves them out.
        max_gap: longest gap to fill, in missing frames, >= 0. ByteTrack and StrongSORT fill up to about 20.
        gaussian_tau: the larger, the smoother the Gaussian process, in frames, > 1. StrongSORT: 10.
        std_weight_position: standard deviation of position noise in box heights, > 0; as the tracker's.
        std_weight_velocity: standard deviation of velocity noise in box heights a frame, > 0; as the tracker's.
    """

    min_length: int = 5
    min_score: float | None = None
    link: bool = False
    link_max_gap: int = 30
    link_gate: float = CHI2_50_4DOF
    link_max_distance: float = 0.3
    link_max_cosine_distance: float = 0.3
    rts: bool = True
    gaps: Literal["none", "linear", "gaussian", "rts"] = "linear"
    max_gap: int = 20
    gaussian_tau: float = 10.0
    std_weight_position: float = 1 / 20
    std_weight_velocity: float = 1 / 160

    def __post_init__(self) -> None:
        # Written as comparisons that NaN fails.
        for name in ("link_max_gap", "min_length", "max_gap"):
            self._check(name, getattr(self, name) >= 0, ">= 0")
        for name in ("link_gate", "link_max_distance", "std_weight_position", "std_weight_velocity"):
            self._check(name, 0 < getattr(self, name) < math.inf, "> 0 and finite")
        self._check("link_max_cosine_distance", 0 <= self.link_max_cosine_distance <= 2, "in [0, 2]")
        self._check("min_score", self.min_score is None or math.isfinite(self.min_score), "finite or none")
        self._check("gaussian_tau", 1 < self.gaussian_tau < math.inf, "> 1 and finite")
        self._check("gaps", self.gaps in GAP_METHODS, "one of " + ", ".join(GAP_METHODS))

    def _check(self, name: str, holds: bool, expected: str) -> None:
        """Raise ConfigError unless ``holds``."""
        if not holds:
            default = type(self).__dataclass_fields__[name].default
            raise ConfigError(
                f"offline.{name} must be {expected}, got {getattr(self, name)}; {default} is the default",
                expected=expected,
                actual=str(getattr(self, name)),
            )
