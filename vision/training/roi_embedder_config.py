"""Settings of a single-pass embedder's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from vision.errors import ConfigError
from vision.training.config import TrainingConfig
from vision.training.embedder_config import HOLDOUT_PEOPLE

# The backbone is the detector's and stays as it is: these settings of other runs would do nothing.
_OF_A_BACKBONE = ("backbone", "pretrained", "freeze_stride", "backbone_lr_factor")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiEmbedderTrainingConfig(TrainingConfig):
    """One training run of an embedder on feature maps of a detector, from a folder of crops, one subfolder a person.

    Attributes:
        data: folder of person folders; file names tell the camera (``..._c3...``, Market-1501).
        backgrounds: folder of pictures to paste the crops onto; None takes plain colours.
        detector: model whose backbone makes the maps; the exported embedder works with these weights alone.
        strides: of the maps that are pooled, ascending, at most 16.
        dim: dimensions of the embedding. width, depth: channels and residual blocks of the head.
        holdout_people: people kept out of training for validation: the last ones by id.
        variants: times each crop is pasted; about 24 kB of memory each.
        canvas: side in pixels of the square pictures that the crops are pasted on.
        heights: smallest and largest height of a pasted person in pixels of the network's input.
        val_height: height at which held-out crops are shown, alone on a canvas each.
        people, crops: people in a batch and crops of each; their product is the batch size.
        margin: of the triplet loss, 0 takes its soft form. label_smoothing: of the classification loss, in [0, 1).
        circle_weight: of the circle loss (Sun 2020) beside these; 0 leaves it out.
    """

    data: Path
    backgrounds: Path | None = None
    out: Path = Path("runs/roi-embedder")
    name: str = "roi-embedder"
    detector: str = "person-lite0"
    strides: tuple[int, ...] = (4, 8, 16)
    dim: int = 128
    width: int = 192
    depth: int = 2
    dropout: float = 0.2
    epochs: int = 24
    lr: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    eval_every: int = 4
    holdout_people: int = HOLDOUT_PEOPLE
    variants: int = 6
    canvas: int = 512
    heights: tuple[int, int] = (40, 220)
    val_height: int = 128
    people: int = 16
    crops: int = 4
    margin: float = 0.3
    label_smoothing: float = 0.1
    circle_weight: float = 0.0

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        defaults = {item.name: item.default for item in fields(TrainingConfig)}
        for name in _OF_A_BACKBONE:
            if getattr(self, name) != defaults[name]:
                raise ConfigError(
                    f"{name} is no setting of a roi-embedder, whose backbone is the detector's and stays frozen, got "
                    f"{getattr(self, name)!r}; leave it out, or name another detector"
                )
        if self.people < 2 or self.crops < 2 or self.holdout_people < 2:
            raise ConfigError(
                f"people, crops and holdout_people must be >= 2, got {self.people}, {self.crops} and "
                f"{self.holdout_people}; 16, 4 and {HOLDOUT_PEOPLE} are the defaults"
            )
        if self.variants < 1 or self.val_height < 1 or self.circle_weight < 0 or not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                "variants and val_height must be >= 1, circle_weight >= 0 and label_smoothing in [0, 1), got "
                f"{self.variants}, {self.val_height}, {self.circle_weight} and {self.label_smoothing}"
            )
        if not 1 <= self.heights[0] <= self.heights[1] <= self.canvas:
            raise ConfigError(
                f"heights must be 1 <= smallest <= largest <= canvas ({self.canvas}), got {self.heights}; (40, 220) is "
                "the default"
            )
        if not self.strides or list(self.strides) != sorted(set(self.strides)) or max(self.strides) > 16:
            raise ConfigError(
                f"strides must rise and be at most 16, got {self.strides}; (4, 8, 16) is the default: coarser cells "
                "hold several people"
            )
