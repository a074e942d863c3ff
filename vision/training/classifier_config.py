"""Settings of a classifier's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vision.classification.config import Resize, Task
from vision.errors import ConfigError
from vision.training.config import TrainingConfig

RegressionLoss = Literal["huber", "mse", "mae"]
ClassWeights = Literal["none", "balanced"]
VAL_FRACTION = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierTrainingConfig(TrainingConfig):
    """One training run of a classifier on folders of pictures or a CSV table (docs/classification.md).

    Attributes:
        data: a folder with a subfolder a class, a folder with train/ and val/ of such, or a CSV file.
        val_data: the same for validation; None takes val/ of ``data``, or else holds out ``val_fraction`` of it, in
            (0, 1), of each class, chosen by a hash of the file names.
        task: "multiclass" (one class a picture), "multilabel" (any number) or "regression" (a number).
        classes: class names to learn, in label order; empty takes all of the training data.
        unit: of a regression's value; for the card and the outputs.
        freeze_stride: as everywhere, but 0 by default: a network that starts from scratch must train all.
        image_size: side in pixels of the square input; 0 takes the backbone's native size.
        resize: how a picture of another shape fills it: "crop", "stretch" or "letterbox" (docs/classification.md).
        crop_share: for "crop", share of the largest middle square's side, in (0, 1].
        crop_range: smallest and largest share of the picture's area that a training sample shows.
        flip: mirror half of the training samples; not for digits, letters or anything with a left and a right.
        colour: strength of the random change of hue, saturation and brightness, in [0, 1].
        label_smoothing: share of the target that is spread over all classes (multiclass), in [0, 1).
        regression_loss: "huber" (square near 0, absolute beyond one standard deviation), "mse" or "mae".
        class_weights: "balanced" weighs rare classes up in the loss: inversely to their number of pictures.
        batch_size: pictures in one step. workers: data-loading processes; 0 loads in the training process.
    """

    data: Path
    val_data: Path | None = None
    val_fraction: float = VAL_FRACTION
    task: Task = "multiclass"
    classes: tuple[str, ...] = ()
    unit: str = ""
    out: Path = Path("runs/classifier")
    name: str = "classifier"
    freeze_stride: int = 0
    eval_every: int = 1
    image_size: int = 0
    resize: Resize = "crop"
    crop_share: float = 1.0
    crop_range: tuple[float, float] = (0.5, 1.0)
    flip: bool = True
    colour: float = 0.5
    label_smoothing: float = 0.1
    regression_loss: RegressionLoss = "huber"
    class_weights: ClassWeights = "none"
    batch_size: int = 32
    workers: int = 0

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        for name, kind in (
            ("task", Task),
            ("resize", Resize),
            ("regression_loss", RegressionLoss),
            ("class_weights", ClassWeights),
        ):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if self.batch_size < 1 or self.workers < 0 or self.image_size < 0:
            raise ConfigError(
                f"batch_size must be >= 1, workers and image_size >= 0, got {self.batch_size}, {self.workers} and "
                f"{self.image_size}; 32, 0 and 0 are the defaults"
            )
        self._check_ranges()
        self._check_task()

    def _check_ranges(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction must be in (0, 1), got {self.val_fraction}; {VAL_FRACTION} is the default")
        if not 0 < self.crop_share <= 1:
            raise ConfigError(f"crop_share must be in (0, 1], got {self.crop_share}; 1 takes the whole")
        if not 0 < self.crop_range[0] <= self.crop_range[1] <= 1:
            raise ConfigError(
                f"crop_range must be two shares 0 < low <= high <= 1, got {self.crop_range}; [1, 1] never crops"
            )
        if not 0 <= self.colour <= 1:
            raise ConfigError(f"colour must be in [0, 1], got {self.colour}; 0 leaves colours as they are")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}; 0.1 is the default")

    def _check_task(self) -> None:
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes must differ, got {', '.join(self.classes)}; leave the doubled name out")
        if self.task == "regression" and self.classes:
            raise ConfigError(
                f"a regression has no classes, got {', '.join(self.classes)}; leave classes out or choose another task"
            )
        if self.task == "multiclass" and len(self.classes) == 1:
            raise ConfigError(
                f"a multiclass task needs two classes or more, got {self.classes[0]!r} alone; add a class such as "
                "background, or choose task=multilabel"
            )
        if self.task != "regression" and self.unit:
            raise ConfigError(f"only a regression has a unit, got unit={self.unit!r} for {self.task}; leave it out")
