"""Settings of training runs; loads no torch. One TOML file or a few CLI options make one of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vision.detection.config import DetectorFamily
from vision.errors import ConfigError

Optimizer = Literal["sgd", "momentum", "rmsprop", "adam", "adamw"]
Schedule = Literal["cosine", "linear", "step", "multistep", "constant", "one-cycle"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed", "fp32", "fp16", "bf16"]

_NOT_NEGATIVE = (
    "weight_decay",
    "warmup_steps",
    "clip_norm",
    "clip_value",
    "patience",
    "time_budget_minutes",
    "checkpoint_minutes",
    "checkpoint_steps",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """What every training run has; the tasks add their own fields and may change defaults.

    Attributes:
        out: run folder; gets checkpoints, metrics and the exported model.
        name: name of the exported model.
        backbone: registry name. pretrained: start from ImageNet weights.
        freeze_stride: backbone stages up to this stride stay as they are; 0 trains all.
        dropout: share of the features set to zero before a head's last layer, in [0, 1).
        epochs: passes over the training data.
        optimizer: sgd, momentum (SGD with momentum), rmsprop, adam (decay added to the gradient) or adamw.
        lr: peak learning rate. backbone_lr_factor: the backbone's share of it; pretrained layers move less.
        momentum, nesterov: of the optimizer momentum.
        betas: decay of the two moments of adam and adamw. weight_decay: of weights, not of biases and norms.
        schedule: what follows the warm-up: cosine or linear to zero, step (times ``lr_decay`` every
            ``lr_step_epochs``), multistep (times ``lr_decay`` at each of ``lr_milestones``, in epochs), constant, or
            one-cycle (rise over the first 30 % of the run, cosine to zero).
        warmup_steps: optimizer steps of the linear warm-up, a quarter of the run at most.
        accumulate: batches whose gradients make one optimizer step.
        clip_norm: largest gradient norm. clip_value: largest gradient element. 0 is off; one of them at most.
        ema_decay: decay of the exponential moving average of the weights, per step; 0 keeps none.
        patience: validations without a better result after which the run stops; 0 never stops early.
        time_budget_minutes: length of training in place of ``epochs``, validations included; 0 has no limit.
        auto_batch: replace the batch size by the largest that fits the memory.
        seed: of weights, order and augmentation.
        deterministic: only CUDA operations that give the same numbers each time; slower.
        threads: CPU threads of torch; 0 leaves its default.
        device: "auto", "cpu" or "cuda". devices: how many of them; more than one trains in as many processes (DDP),
            each with its own batches. strategy: Lightning's name; "auto" is DDP for several devices.
        precision: 32-true, 16-mixed or bf16-mixed, for short fp32, fp16 and bf16.
        eval_every: epochs between validations; the last epoch is always validated.
        checkpoint_minutes: longest time between two saves of last.ckpt, 0 saves at the ends of epochs alone.
        checkpoint_steps: optimizer steps between two saves, 0 leaves it to the time.
        resume: continue from out/last.ckpt when it is there.
        data_name, data_terms: what the model card says of the training data.
    """

    out: Path
    name: str
    backbone: str = "tf_efficientnet_lite0"
    pretrained: bool = True
    freeze_stride: int = 8
    dropout: float = 0.0
    epochs: int = 20
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    backbone_lr_factor: float = 0.3
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    schedule: Schedule = "cosine"
    warmup_steps: int = 200
    lr_decay: float = 0.1
    lr_step_epochs: float = 10
    lr_milestones: tuple[float, ...] = (12, 17)
    accumulate: int = 1
    clip_norm: float = 10.0
    clip_value: float = 0.0
    ema_decay: float = 0.998
    patience: int = 0
    time_budget_minutes: float = 0.0
    auto_batch: bool = False
    seed: int = 0
    deterministic: bool = False
    threads: int = 0
    device: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: Precision = "32-true"
    eval_every: int = 2
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    resume: bool = True
    data_name: str = ""
    data_terms: str = ""

    def __post_init__(self) -> None:
        if min(self.epochs, self.eval_every, self.accumulate, self.devices) < 1:
            raise ConfigError(
                f"epochs, eval_every, accumulate and devices must be >= 1, got {self.epochs}, {self.eval_every}, "
                f"{self.accumulate} and {self.devices}; correct the one below 1"
            )
        if self.lr <= 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(f"lr must be > 0 and ema_decay in [0, 1), got {self.lr} and {self.ema_decay}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ConfigError(f"device must be auto, cpu or cuda, got {self.device!r}; auto picks for you")
        self._check_fractions()
        self._check_schedule()

    def _check_fractions(self) -> None:
        for name in ("dropout", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be in [0, 1), got {getattr(self, name)}; 0 switches it off")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas must be two numbers in [0, 1), got {self.betas}; (0.9, 0.999) is the default")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be >= 0, got {getattr(self, name)}; 0 switches it off")
        if self.clip_norm and self.clip_value:
            raise ConfigError(
                f"gradients are clipped by norm or by value, got clip_norm={self.clip_norm} and "
                f"clip_value={self.clip_value}; set one of them to 0"
            )

    def _check_schedule(self) -> None:
        if not 0 < self.lr_decay <= 1 or self.lr_step_epochs <= 0:
            raise ConfigError(
                f"lr_decay must be in (0, 1] and lr_step_epochs > 0, got {self.lr_decay} and {self.lr_step_epochs}; "
                "0.1 and 10 are the defaults"
            )
        if list(self.lr_milestones) != sorted(self.lr_milestones) or min(self.lr_milestones, default=1) <= 0:
            raise ConfigError(f"lr_milestones must be epochs in rising order, got {self.lr_milestones}; sort them")
        if self.nesterov and (self.optimizer != "momentum" or not self.momentum):
            raise ConfigError(
                f"nesterov needs optimizer=momentum and a momentum above 0, got {self.optimizer} and {self.momentum}; "
                "set them or leave nesterov out"
            )
        if self.precision in ("fp16", "16-mixed") and self.device == "cpu":
            raise ConfigError("fp16 needs a CUDA device, got device=cpu; take bf16 or fp32")


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTrainingConfig(TrainingConfig):
    """One training run of a detector of any kind on COCO, VOC or YOLO data (docs/data.md).

    Attributes:
        train_data: annotated pictures; of data with a train and a val list, the train list.
        val_data: the same for validation, its val list first; None takes the val list of train_data, or else holds
            ``val_fraction`` of train_data out of training, in (0, 1), chosen by a hash of the file names.
        negatives_data: data whose pictures without the wanted classes serve as background, or None.
        classes: category names to learn, in label order; empty takes all of train_data.
        long_side: longer side in pixels at validation and the default at inference.
        batch_size: samples in one step.
        workers: data-loading processes; 0 loads in the training process.
    """

    train_data: Path
    val_data: Path | None = None
    val_fraction: float = 0.2
    negatives_data: Path | None = None
    classes: tuple[str, ...] = ()
    long_side: int = 512
    batch_size: int = 16
    workers: int = 0

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction must be in (0, 1), got {self.val_fraction}; 0.2 is the default")
        if self.batch_size < 1 or self.workers < 0:
            raise ConfigError(f"batch_size must be >= 1 and workers >= 0, got {self.batch_size} and {self.workers}")
        if self.long_side < 1:
            raise ConfigError(f"long_side must be >= 1 pixel, got {self.long_side}; leave it out for the default")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorTrainingConfig(BoxTrainingConfig):
    """One training run of an anchor detector.

    Attributes:
        family: kind of network (docs/detectors.md). channels, head_depth: width of the neck and heads, convolutions in
            each head; 0 takes the family's.
        strides, anchor_scale, anchor_ratios, anchor_octaves: see AnchorConfig; empty and 0 take the family's.
        loss: "qfl" (Li 2020, GIoU), "focal" (Lin 2017b) or "multibox" (Liu 2016).
        assigner: which anchors learn which object: "atss" (adaptive, Zhang 2020) or "iou" (thresholds, Lin 2017b).
        image_size: side in pixels of the square training input, a multiple of 64.
        scale_range: smallest and largest random zoom, relative to the picture filling image_size.
        mosaic: share of the samples made of four pictures, in [0, 1].
        light_epochs: epochs at the end without mosaics and with half the change of colour, so that the last steps see
            pictures like those of inference.
        init: model (name or folder) whose weights to start from instead of the backbone's; layers that depend on the
            classes start anew when the classes differ. Empty: none.
    """

    out: Path = Path("runs/detector")
    name: str = "detector"
    family: DetectorFamily = "fpn-lite"
    channels: int = 0
    head_depth: int = 0
    strides: tuple[int, ...] = ()
    anchor_scale: float = 0.0
    anchor_ratios: tuple[float, ...] = ()
    anchor_octaves: int = 0
    loss: Literal["qfl", "focal", "multibox"] = "qfl"
    assigner: Literal["atss", "iou"] = "atss"
    image_size: int = 320
    scale_range: tuple[float, float] = (0.6, 2.0)
    mosaic: float = 0.0
    light_epochs: int = 0
    init: str = ""

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        BoxTrainingConfig.__post_init__(self)
        if self.image_size % 64 or self.image_size < 64:
            raise ConfigError(f"image_size must be a multiple of 64, got {self.image_size}; 320 is the default")
        if min(self.channels, self.head_depth, self.anchor_scale, self.anchor_octaves) < 0:
            raise ConfigError(
                "channels, head_depth, anchor_scale and anchor_octaves must be >= 0, got "
                f"{self.channels}, {self.head_depth}, {self.anchor_scale}, {self.anchor_octaves}; 0 takes the family's"
            )
        if not 0 <= self.mosaic <= 1 or self.light_epochs < 0:
            raise ConfigError(
                f"mosaic must be in [0, 1] and light_epochs >= 0, got {self.mosaic} and {self.light_epochs}"
            )
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ConfigError(
                f"scale_range must be two numbers 0 < low <= high, got {self.scale_range}; (0.6, 2.0) is the default"
            )
