"""Settings of training runs; loads no torch. One TOML file or a few CLI options make one of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vision.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingConfig:
    """One training run of an anchor detector on COCO JSON data.

    Attributes:
        train_json, val_json: COCO annotation files; pictures lie beside them as their file_name says.
        negatives_json: COCO file whose pictures without the wanted classes serve as background, or None.
        classes: category names to learn, in label order; empty takes all of train_json.
        out: run folder; gets checkpoints, metrics and the exported model.
        name: name of the exported model.
        backbone: registry name. pretrained: start from ImageNet weights.
        freeze_stride: backbone stages up to this stride stay as they are; 0 trains all.
        channels, head_depth: width of the neck and heads, convolutions in each head.
        anchor_scale, anchor_ratios: see AnchorConfig.
        image_size: side in pixels of the square training input, a multiple of the coarsest stride.
        long_side: longer side in pixels at validation and the default at inference.
        scale_range: smallest and largest random zoom, relative to the picture filling image_size.
        epochs, batch_size, lr, weight_decay: AdamW with linear warm-up and cosine decay to zero.
        backbone_lr_factor: the backbone's share of lr; pretrained layers move less.
        warmup_steps: optimizer steps of the linear warm-up.
        ema_decay: decay of the exponential moving average of the weights, per step.
        clip_norm: largest gradient norm.
        seed: of weights, order and augmentation.
        workers: data-loading processes; 0 loads in the training process.
        threads: CPU threads of torch; 0 leaves its default.
        device: "auto", "cpu" or "cuda". precision: Lightning's name, for example "32-true" or "bf16-mixed".
        eval_every: epochs between validations.
        resume: continue from out/last.ckpt when it is there.
        data_name, data_terms: what the model card says of the training data.
    """

    train_json: Path
    val_json: Path
    negatives_json: Path | None = None
    classes: tuple[str, ...] = ()
    out: Path = Path("runs/detector")
    name: str = "detector"
    backbone: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    freeze_stride: int = 8
    channels: int = 96
    head_depth: int = 3
    anchor_scale: float = 4.0
    anchor_ratios: tuple[float, ...] = (1.8,)
    image_size: int = 320
    long_side: int = 448
    scale_range: tuple[float, float] = (0.6, 2.0)
    epochs: int = 20
    batch_size: int = 16
    lr: float = 1e-3
    backbone_lr_factor: float = 0.3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    ema_decay: float = 0.998
    clip_norm: float = 10.0
    seed: int = 0
    workers: int = 0
    threads: int = 0
    device: str = "auto"
    precision: str = "32-true"
    eval_every: int = 2
    resume: bool = True
    data_name: str = ""
    data_terms: str = ""

    def __post_init__(self) -> None:
        if self.image_size % 64 or self.image_size < 64:
            raise ConfigError(
                f"image_size must be a multiple of 64 (the coarsest stride), got {self.image_size}; 320 is the default"
            )
        if min(self.epochs, self.batch_size, self.eval_every) < 1:
            raise ConfigError(
                "epochs, batch_size and eval_every must be >= 1, "
                f"got {self.epochs}, {self.batch_size}, {self.eval_every}"
            )
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ConfigError(
                f"scale_range must be two numbers 0 < low <= high, got {self.scale_range}; (0.6, 2.0) is the default"
            )
        if self.lr <= 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(f"lr must be > 0 and ema_decay in [0, 1), got {self.lr} and {self.ema_decay}")
