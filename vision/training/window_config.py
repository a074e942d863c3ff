"""Settings of a sliding-window detector's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision.errors import ConfigError
from vision.training.config import BoxTrainingConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowTrainingConfig(BoxTrainingConfig):
    """One training run of a sliding-window detector.

    Attributes:
        stride, depth, cells_hw, hidden, size, aspects: the network, see WindowArchitecture.
        long_side: longer side of the pyramid's first level in pixels, which decides the smallest object found.
        scales_per_octave: levels of the pyramid until the picture's size has halved.
        patch_windows: windows along each side of a training patch; all of a patch's windows are trained together.
        object_share: share of the patches that are centred on an object, in [0, 1]; the others show background.
        mined_share: of the background patches, the share centred on a mined false positive, where there is one.
        negatives_per_positive: background windows in the loss for each window on an object; half of them are the
            most offending ones, half are random.
        mine_every: epochs between two rounds of mining, 0 for none. mine_pictures: pictures searched in a round.
        mine_conf: lowest score of a detection that counts as a false positive, in (0, 1).
        cache_mb: memory for decoded pictures in MB; what does not fit is decoded again each time.
    """

    out: Path = Path("runs/window")
    name: str = "window"
    stride: int = 8
    depth: int = 2
    cells_hw: tuple[int, int] = (5, 3)
    hidden: int = 192
    size: float = 32.0
    aspects: tuple[float, ...] = (1.25, 2.5)
    long_side: int = 640
    scales_per_octave: int = 2
    patch_windows: int = 16
    object_share: float = 0.7
    mined_share: float = 0.7
    negatives_per_positive: float = 3.0
    mine_every: int = 3
    mine_pictures: int = 200
    mine_conf: float = 0.3
    cache_mb: int = 2048

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        BoxTrainingConfig.__post_init__(self)
        if min(self.patch_windows, self.scales_per_octave) < 1:
            raise ConfigError(
                f"patch_windows and scales_per_octave must be >= 1, got {self.patch_windows} and "
                f"{self.scales_per_octave}; 16 and 2 are the defaults"
            )
        if not 0 <= self.object_share <= 1 or not 0 <= self.mined_share <= 1:
            raise ConfigError(
                f"object_share and mined_share must be in [0, 1], got {self.object_share} and {self.mined_share}; "
                "both are shares of the patches"
            )
        if self.negatives_per_positive <= 0 or not 0 < self.mine_conf < 1:
            raise ConfigError(
                "negatives_per_positive must be > 0 and mine_conf in (0, 1), got "
                f"{self.negatives_per_positive} and {self.mine_conf}; 3 and 0.3 are the defaults"
            )
        if min(self.mine_every, self.mine_pictures, self.cache_mb) < 0:
            raise ConfigError(
                "mine_every, mine_pictures and cache_mb must be >= 0, got "
                f"{self.mine_every}, {self.mine_pictures} and {self.cache_mb}; 0 switches each off"
            )
