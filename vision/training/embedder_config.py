"""Settings of an embedder's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision.errors import ConfigError

HOLDOUT_PEOPLE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderTrainingConfig:
    """One training run of an embedder on a folder of crops, one subfolder a person.

    Attributes:
        data: folder of person folders; file names tell the camera (``..._c3...``, Market-1501).
        out: run folder; gets checkpoints, metrics and the exported model.
        name: name of the exported model.
        backbone: registry name. pretrained: start from ImageNet weights.
        stride: the backbone is cut after this stride. dim: dimensions of the embedding.
        freeze_stride: backbone stages up to this stride stay as they are; 0 trains all.
        size_hw: height and width in pixels that crops are stretched to, multiples of the stride.
        holdout_people: people kept out of training for validation: the last ones by id.
        epochs: passes over as many crops as the training set has.
        people, crops: people in a batch and crops of each; their product is the batch size (Hermans 2017, section 3).
        lr, weight_decay: AdamW with linear warm-up and cosine decay to zero.
        backbone_lr_factor: the backbone's share of lr; pretrained layers move less.
        warmup_steps: optimizer steps of the linear warm-up.
        ema_decay: decay of the exponential moving average of the weights, per step.
        margin: of the triplet loss, in units of the feature. label_smoothing: of the classification loss, in [0, 1).
        clip_norm: largest gradient norm.
        seed: of weights, order and augmentation.
        threads: CPU threads of torch; 0 leaves its default.
        device: "auto", "cpu" or "cuda". precision: Lightning's name, for example "32-true" or "bf16-mixed".
        eval_every: epochs between validations.
        resume: continue from out/last.ckpt when it is there.
        data_name, data_terms: what the model card says about the data.
    """

    data: Path
    out: Path = Path("runs/embedder")
    name: str = "embedder"
    backbone: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    stride: int = 16
    dim: int = 128
    freeze_stride: int = 4
    size_hw: tuple[int, int] = (128, 64)
    holdout_people: int = HOLDOUT_PEOPLE
    epochs: int = 20
    people: int = 16
    crops: int = 4
    lr: float = 1e-3
    backbone_lr_factor: float = 0.5
    weight_decay: float = 0.01
    warmup_steps: int = 200
    ema_decay: float = 0.995
    margin: float = 0.3
    label_smoothing: float = 0.1
    clip_norm: float = 10.0
    seed: int = 0
    threads: int = 0
    device: str = "auto"
    precision: str = "32-true"
    eval_every: int = 2
    resume: bool = True
    data_name: str = ""
    data_terms: str = ""

    def __post_init__(self) -> None:
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
        if min(self.epochs, self.eval_every) < 1:
            raise ConfigError(f"epochs and eval_every must be >= 1, got {self.epochs} and {self.eval_every}")
        if self.lr <= 0 or not 0 <= self.ema_decay < 1 or not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"lr must be > 0, ema_decay and label_smoothing in [0, 1), got {self.lr}, {self.ema_decay}, "
                f"{self.label_smoothing}"
            )
