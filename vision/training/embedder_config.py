"""Settings of an embedder's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision.errors import ConfigError
from vision.training.config import TrainingConfig

HOLDOUT_PEOPLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderTrainingConfig(TrainingConfig):
    """One training run of an embedder on a folder of crops, one subfolder a person.

    Attributes:
        data: folder of person folders; file names tell the camera (``..._c3...``, Market-1501).
        stride: the backbone is cut after this stride. dim: dimensions of the embedding.
        size_hw: height and width in pixels that crops are stretched to, multiples of the stride.
        holdout_people: people kept out of training for validation: the last ones by id.
        people, crops: people in a batch and crops of each; their product is the batch size (Hermans 2017, section 3).
        margin: of the triplet loss, in units of the feature. label_smoothing: of the classification loss, in [0, 1).
    """

    data: Path
    out: Path = Path("runs/embedder")
    name: str = "embedder"
    freeze_stride: int = 4
    backbone_lr_factor: float = 0.5
    weight_decay: float = 0.01
    ema_decay: float = 0.995
    stride: int = 16
    dim: int = 128
    size_hw: tuple[int, int] = (128, 64)
    holdout_people: int = HOLDOUT_PEOPLE
    people: int = 16
    crops: int = 4
    margin: float = 0.3
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        if self.stride < 1 or any(side < 1 or side % self.stride for side in self.size_hw):
            raise ConfigError(
                f"size_hw must be multiples of the stride {self.stride}, got {self.size_hw}; (128, 64) is the default"
            )
        if self.people < 2 or self.crops < 2:
            raise ConfigError(
                f"people and crops must be >= 2 (a triplet needs two crops of one person and one of another), got "
                f"{self.people} and {self.crops}; 16 and 4 are the defaults"
            )
        if self.holdout_people < 2:
            raise ConfigError(
                f"holdout_people must be >= 2, got {self.holdout_people}; {HOLDOUT_PEOPLE} is the default"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}; 0.1 is the default")
