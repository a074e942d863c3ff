"""Settings of a segmenter's training run; loads no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from vision.errors import ConfigError
from vision.training.config import TrainingConfig

ClassWeights = Literal["none", "balanced", "median"]
VAL_FRACTION = 0.2
IGNORE = 255
# Setting -> the numbers it may be, in words, and whether one is among them.
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "val_fraction": ("in (0, 1)", lambda value: 0 < value < 1),
    "colour": ("in [0, 1]", lambda value: 0 <= value <= 1),
    "label_smoothing": ("in [0, 1)", lambda value: 0 <= value < 1),
    "dice_weight": (">= 0", lambda value: 0 <= value < math.inf),
    "focal_gamma": (">= 0", lambda value: 0 <= value < math.inf),
    "ignore": ("in [0, 255]", lambda value: 0 <= value <= 255),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterTrainingConfig(TrainingConfig):
    """One training run of an FCN on pictures with masks (docs/segmentation.md).

    Attributes:
        data: folder with images/ and masks/, with train/ and val/ of such, or of Pascal VOC.
        val_data: the same for validation; None takes val/ of ``data`` (VOC: its val list), or else holds out
            ``val_fraction`` of it, in (0, 1), chosen by a hash of the file names.
        classes: names of the mask values 0, 1, 2, ...; empty takes classes.txt beside the folders, or VOC's.
        ignore: mask value that no loss and no score looks at, in [0, 255].
        palette: "index" reads masks as numbers, "voc" and "camvid" their colours, a file "name,red,green,blue" a line
            its own colours: several lines of a name are one class, those named "ignore" are none.
        stride: of the finest map that is scored: 32, 16 or 8 in a pyramid to 32.
        staged: train the coarser networks first (Long 2015, section 4.3): the run is divided into as many equal shares
            as there are scores, and those of a finer map rest until the share that begins with them. With one, at the
            backbone's last stride, it changes nothing.
        width: channels of the convolution before the coarsest scores; 0 has none. learnable: train the upsampling, with
            the loss on logits of the input's size at the pixels of ``loss_stride``: slower.
        init: trained segmenter (name or folder) of the same backbone whose weights to start from. It may have a coarser
            stride: the scores that it lacks start at zero. Scores of other classes start anew. Empty: none.
        long_side: longer side in pixels at validation and the default at inference; 0 leaves pictures as they are.
        crop_hw: height and width of a training sample, multiples of the backbone's last stride.
        scale_range: smallest and largest random zoom. flip: mirror half of the samples. colour: strength of the random
            change of hue, saturation and brightness, in [0, 1].
        loss_stride: the loss is taken at every so many-th pixel of each row and column, a divisor of the sides of
            crop_hw: a CPU needs a fraction of the time for it.
        class_weights: "balanced" weighs classes inversely to their number of pixels, "median" by the median of the
            frequencies over the class's (Eigen 2015), both at most 10.
        dice_weight: of the soft Dice loss (Milletari 2016). focal_gamma: of the focal loss in place of cross-entropy
            (Lin 2017b); 0 is cross-entropy. label_smoothing: in [0, 1).
        batch_size: samples in one step. workers: data-loading processes; 0 loads in the training process.
    """

    data: Path
    val_data: Path | None = None
    val_fraction: float = VAL_FRACTION
    classes: tuple[str, ...] = ()
    ignore: int = IGNORE
    palette: str = "index"
    out: Path = Path("runs/segmenter")
    name: str = "segmenter"
    freeze_stride: int = 0
    epochs: int = 60
    stride: int = 8
    staged: bool = False
    width: int = 0
    learnable: bool = False
    init: str = ""
    long_side: int = 0
    crop_hw: tuple[int, int] = (320, 320)
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    colour: float = 0.5
    loss_stride: int = 4
    class_weights: ClassWeights = "none"
    dice_weight: float = 0.0
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0
    batch_size: int = 8
    workers: int = 0

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        if self.batch_size < 1 or min(self.workers, self.long_side, self.width) < 0:
            raise ConfigError(
                f"batch_size must be >= 1, workers, long_side and width >= 0, got {self.batch_size}, {self.workers}, "
                f"{self.long_side} and {self.width}; 8, 0, 0 and 0 are the defaults"
            )
        if self.class_weights not in get_args(ClassWeights):
            raise ConfigError(
                f"class_weights must be one of {', '.join(get_args(ClassWeights))}, got {self.class_weights!r}; "
                "none is the default"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"classes must differ, got {', '.join(self.classes)}; leave the doubled name out")
        self._check_ranges()

    def _check_ranges(self) -> None:
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, (words, allowed) in _RANGES.items():
            if not allowed(value := getattr(self, name)):
                raise ConfigError(f"{name} must be {words}, got {value}; {defaults[name]} is the default")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ConfigError(
                f"scale_range must be two numbers 0 < low <= high, got {self.scale_range}; (0.5, 2.0) is the default"
            )
        if min(self.crop_hw) < 32 or self.loss_stride < 1:
            raise ConfigError(
                f"crop_hw must be >= 32 pixels and loss_stride >= 1, got {self.crop_hw} and {self.loss_stride}; "
                "(320, 320) and 4 are the defaults"
            )
        if any(side % self.loss_stride for side in self.crop_hw):
            raise ConfigError(
                f"loss_stride must divide the sides of crop_hw, {self.crop_hw[0]} and {self.crop_hw[1]}, got "
                f"{self.loss_stride}; 1 always does"
            )
