"""Settings of training runs; loads no torch. One TOML file or a few CLI options make one of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vision.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What every training run has; the tasks add their own fields and may change defaults.

    Attributes:
        out: run folder; gets checkpoints, metrics and the exported model.
        name: name of the exported model.
        backbone: registry name. pretrained: start from ImageNet weights.
        freeze_stride: backbone stages up to this stride stay as they are; 0 trains all.
        epochs, lr, weight_decay: AdamW with linear warm-up and cosine decay to zero.
        backbone_lr_factor: the backbone's share of lr; pretrained layers move less.
        warmup_steps: optimizer steps of the linear warm-up.
        ema_decay: decay of the exponential moving average of the weights, per step.
        clip_norm: largest gradient norm.
        seed: of weights, order and augmentation.
        threads: CPU threads of torch; 0 leaves its default.
        device: "auto", "cpu" or "cuda". precision: Lightning's name, for example "32-true" or "bf16-mixed".
        eval_every: epochs between validations.
        resume: continue from out/last.ckpt when it is there.
        data_name, data_terms: what the model card says of the training data.
    """

    out: Path
    name: str
    backbone: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    freeze_stride: int = 8
    epochs: int = 20
    lr: float = 1e-3
    backbone_lr_factor: float = 0.3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    ema_decay: float = 0.998
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
        if min(self.epochs, self.eval_every) < 1:
            raise ConfigError(f"epochs and eval_every must be >= 1, got {self.epochs} and {self.eval_every}")
        if self.lr <= 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(f"lr must be > 0 and ema_decay in [0, 1), got {self.lr} and {self.ema_decay}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device must be auto, cpu or cuda, got {self.device!r}; auto picks for you")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingConfig(TrainingConfig):
    """One training run of an anchor detector on COCO JSON data.

    Attributes:
        train_data, val_data: COCO annotation files; pictures lie beside them as their file_name says.
        negatives_data: COCO file whose pictures without the wanted classes serve as background, or None.
        classes: category names to learn, in label order; empty takes all of train_data.
        channels, head_depth: width of the neck and heads, convolutions in each head.
        anchor_scale, anchor_ratios: see AnchorConfig.
        assigner: which anchors learn which object: "atss" (adaptive, Zhang 2020) or "iou" (thresholds, Lin 2017b).
        image_size: side in pixels of the square training input, a multiple of the coarsest stride.
        long_side: longer side in pixels at validation and the default at inference.
        scale_range: smallest and largest random zoom, relative to the picture filling image_size.
        mosaic: share of the samples made of four pictures, in [0, 1].
        light_epochs: epochs at the end without mosaics and with half the change of colour, so that the last steps see
            pictures like those of inference.
        init: model (name or folder) whose weights to start from instead of the backbone's; layers that depend on the
            classes start anew when the classes differ. Empty: none.
        batch_size: pictures in one step.
        workers: data-loading processes; 0 loads in the training process.
    """

    train_data: Path
    val_data: Path
    negatives_data: Path | None = None
    classes: tuple[str, ...] = ()
    out: Path = Path("runs/detector")
    name: str = "detector"
    channels: int = 96
    head_depth: int = 3
    anchor_scale: float = 4.0
    anchor_ratios: tuple[float, ...] = (1.8,)
    assigner: Literal["atss", "iou"] = "atss"
    image_size: int = 320
    long_side: int = 512
    scale_range: tuple[float, float] = (0.6, 2.0)
    mosaic: float = 0.0
    light_epochs: int = 0
    init: str = ""
    batch_size: int = 16
    workers: int = 0

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        if self.image_size % 64 or self.image_size < 64:
            raise ConfigError(
                f"image_size must be a multiple of 64 (the coarsest stride), got {self.image_size}; 320 is the default"
            )
        if self.batch_size < 1 or self.workers < 0:
            raise ConfigError(f"batch_size must be >= 1 and workers >= 0, got {self.batch_size} and {self.workers}")
        if not 0 <= self.mosaic <= 1 or self.light_epochs < 0:
            raise ConfigError(
                f"mosaic must be in [0, 1] and light_epochs >= 0, got {self.mosaic} and {self.light_epochs}"
            )
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ConfigError(
                f"scale_range must be two numbers 0 < low <= high, got {self.scale_range}; (0.6, 2.0) is the default"
            )
