"""Settings of an embedder's training run; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vision.errors import ConfigError
from vision.training.config import TrainingConfig

HOLDOUT_PEOPLE = 100
_WEIGHTS = ("triplet_weight", "circle_weight", "stripe_weight", "classifier_margin", "teacher_weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class CropAugmentation:
    """How strongly crops are changed; probabilities and shares in [0, 1].

    Attributes:
        shift: largest movement of the crop, as a share of its sides.
        box_jitter: largest movement of each side of the box by itself, in or out, as a share of the crop's sides; what
            is then in the box is stretched to the crop's size, as a detector's inexact box would be.
        colour: strength of the change of brightness, contrast and white balance; 1 is 15 %, 15 % and 7 %.
        grey: probability that the crop loses its colours (He 2021, FastReID).
        low_resolution: probability that the crop is shrunk by a factor of 1.5 to 4 and enlarged again: far people.
        erase: probability that a rectangle is filled with the mean colour; erase_area: its share of the crop, smallest
            and largest (Zhong 2017).
    """

    shift: float = 0.05
    box_jitter: float = 0.0
    colour: float = 1.0
    grey: float = 0.0
    low_resolution: float = 0.0
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.3)

    def __post_init__(self) -> None:
        for name in ("grey", "low_resolution", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be a probability in [0, 1], got {getattr(self, name)}; 0 is off")
        if not (0 <= self.shift < 0.5 and 0 <= self.box_jitter < 0.5):
            raise ConfigError(
                f"shift and box_jitter must be in [0, 0.5) of a side, got {self.shift} and {self.box_jitter}; 0 is off"
            )
        if not 0 <= self.colour <= 5:
            raise ConfigError(f"colour must be in [0, 5], got {self.colour}; 1 is the default, 0 is off")
        if not 0 < self.erase_area[0] <= self.erase_area[1] < 1:
            raise ConfigError(
                f"erase_area must be two shares 0 < low <= high < 1, got {self.erase_area}; (0.02, 0.3) is the default"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderTrainingConfig(TrainingConfig):
    """One training run of an embedder on a folder of crops, one subfolder a person.

    Attributes:
        data: folder of person folders; file names tell the camera (``..._c3...``, Market-1501).
        stride: the backbone is cut after this stride. dim: dimensions of the embedding.
        stripes: horizontal bands of the feature map that are pooled beside the whole and join the embedding (Sun 2018,
            PCB); 0 or 1 has none. Rows of the map must be a multiple.
        dense: the last stage of the backbone does not halve the map, which makes its cells half as large and it dearer.
        init: trained embedder (name or folder) whose weights to start from instead of the backbone's; empty: none.
        size_hw: height and width in pixels that crops are stretched to, multiples of the stride.
        holdout_people: people kept out of training for validation: the last ones by id.
        exclude_people: people after those who are neither trained nor validated on: a test set for the end.
        cameras: train on the crops of these cameras alone, and validate on those of the others; empty takes all for
            both.
        export_checkpoint: which weights become the model: "best" by validation, or "last", which no validation chose.
        people, crops: people in a batch and crops of each; their product is the batch size (Hermans 2017, section 3).
        margin: of the triplet loss, in units of the feature; 0 is the soft margin. label_smoothing: of the
            classification losses, in [0, 1).
        triplet_weight, circle_weight: of the batch-hard triplet and the circle loss (Sun 2020); 0 leaves one out.
        stripe_weight: of the mean loss of the classifiers that each stripe has in training.
        teachers: trained embedders (names or folders) to learn from too: how alike the crops of a batch are to them
            together, each seen with its mirror image (Passalis 2018). teacher_weight: of that loss.
        classifier_margin: 0 classifies by a linear layer, more by the cosine from which the right person's is lowered
            by this much (Wang 2018, CosFace).
        shift, box_jitter, colour, grey, low_resolution, erase, erase_area: see CropAugmentation.
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
    stripes: int = 0
    dense: bool = False
    init: str = ""
    size_hw: tuple[int, int] = (128, 64)
    holdout_people: int = HOLDOUT_PEOPLE
    exclude_people: int = 0
    cameras: tuple[int, ...] = ()
    export_checkpoint: Literal["best", "last"] = "best"
    people: int = 16
    crops: int = 4
    margin: float = 0.3
    label_smoothing: float = 0.1
    triplet_weight: float = 1.0
    circle_weight: float = 0.0
    stripe_weight: float = 1.0
    classifier_margin: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_weight: float = 1.0
    shift: float = 0.05
    box_jitter: float = 0.0
    colour: float = 1.0
    grey: float = 0.0
    low_resolution: float = 0.0
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.3)

    @property
    def augmentation(self) -> CropAugmentation:
        """How the training crops are changed."""
        return CropAugmentation(
            shift=self.shift,
            box_jitter=self.box_jitter,
            colour=self.colour,
            grey=self.grey,
            low_resolution=self.low_resolution,
            erase=self.erase,
            erase_area=self.erase_area,
        )

    def __post_init__(self) -> None:
        # Named, not super(): a slotted dataclass is rebuilt, and super() would look for the class it was built from.
        TrainingConfig.__post_init__(self)
        self._check_shape()
        if self.people < 2 or self.crops < 2:
            raise ConfigError(
                f"people and crops must be >= 2 (a triplet needs two crops of one person and one of another), got "
                f"{self.people} and {self.crops}; 16 and 4 are the defaults"
            )
        if self.holdout_people < 2 or self.exclude_people < 0:
            raise ConfigError(
                f"holdout_people must be >= 2 and exclude_people >= 0, got {self.holdout_people} and "
                f"{self.exclude_people}; {HOLDOUT_PEOPLE} and 0 are the defaults"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}; 0.1 is the default")
        for name in _WEIGHTS:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be >= 0, got {getattr(self, name)}; 0 switches it off")
        # Checks its own numbers.
        _ = self.augmentation

    def _check_shape(self) -> None:
        if self.stride < 1 or any(side < 1 or side % self.stride for side in self.size_hw):
            raise ConfigError(
                f"size_hw must be multiples of the stride {self.stride}, got {self.size_hw}; (128, 64) is the default"
            )
        rows = self.size_hw[0] // self.stride * (2 if self.dense else 1)
        if self.stripes < 0 or rows % max(self.stripes, 1):
            raise ConfigError(
                f"stripes must divide the {rows} rows of the feature map of {self.size_hw[0]} pixels at "
                f"stride {self.stride}, got {self.stripes}; 0 has none"
            )
