"""A picture of any shape as the input of a classifier: cut, scaled and normalised in one place.

Training, validation, evaluation and inference all come through ``input_image``, so a model sees at work what it was
measured on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_args

from vision.classification.config import Resize
from vision.errors import ConfigError
from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import Normalization, preprocess
from vision.types import FloatArray, ImageArray


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a classifier expects of its input.

    Attributes:
        size_hw: height and width of the network input in pixels.
        resize: "crop" cuts the middle in the input's aspect ratio, "stretch" changes the aspect ratio, "letterbox"
            keeps it and fills the rest, below or to the right, with the mean colour.
        crop_share: for "crop", the share of the largest such cut's sides that is taken, in (0, 1].
        normalization: constants of the weights.
    """

    size_hw: tuple[int, int]
    resize: Resize
    crop_share: float = 1.0
    normalization: Normalization

    def __post_init__(self) -> None:
        if min(self.size_hw) < 1:
            raise ConfigError(f"size_hw must be >= 1 pixel, got {self.size_hw}; the backbone's native size is a start")
        if self.resize not in get_args(Resize):
            raise ConfigError(f"resize must be one of {', '.join(get_args(Resize))}, got {self.resize!r}")
        if not 0 < self.crop_share <= 1:
            raise ConfigError(f"crop_share must be in (0, 1], got {self.crop_share}; 1 takes the whole")

    @classmethod
    def from_card(cls, preprocess: Mapping[str, Any]) -> Self:
        """Return the spec that ``to_card`` wrote."""
        return cls(
            size_hw=(int(preprocess["size_hw"][0]), int(preprocess["size_hw"][1])),
            resize=preprocess["resize"],
            crop_share=float(preprocess.get("crop_share", 1.0)),
            normalization=Normalization(tuple(preprocess["mean"]), tuple(preprocess["std"])),
        )

    def to_card(self) -> dict[str, Any]:
        """Return the table ``[preprocess]`` of a model card."""
        crop = {"crop_share": self.crop_share} if self.resize == "crop" else {}
        return {
            "size_hw": list(self.size_hw),
            "resize": self.resize,
            **crop,
            "mean": list(self.normalization.mean),
            "std": list(self.normalization.std),
        }


def input_image(image: ImageArray, spec: InputSpec) -> FloatArray:
    """Return the network input float32 [3, H, W] of a picture uint8 [h, w, 3] of any size."""
    if spec.resize == "crop":
        image = centre_crop(image, spec.size_hw, spec.crop_share)
    return region_input(image, spec)


def region_input(region: ImageArray, spec: InputSpec) -> FloatArray:
    """Return the network input float32 [3, H, W] that shows the whole of a region uint8 [h, w, 3] cut already."""
    return preprocess(region, _letterbox((region.shape[0], region.shape[1]), spec), spec.normalization)


def _letterbox(source_hw: tuple[int, int], spec: InputSpec) -> Letterbox:
    if spec.resize != "letterbox":
        return Letterbox.stretch(source_hw, spec.size_hw)
    scale = min(spec.size_hw[0] / source_hw[0], spec.size_hw[1] / source_hw[1])
    height, width = (max(1, round(side * scale)) for side in source_hw)
    return Letterbox(source_hw, (height, width), spec.size_hw)


def centre_crop(image: ImageArray, size_hw: tuple[int, int], share: float = 1.0) -> ImageArray:
    """Return the middle of a picture in the aspect ratio of ``size_hw``, ``share`` of the largest such cut; a view.

    >>> import numpy as np
    >>> centre_crop(np.zeros((100, 300, 3), np.uint8), (224, 224), 0.5).shape
    (50, 50, 3)
    """
    scale = min(image.shape[0] / size_hw[0], image.shape[1] / size_hw[1]) * share
    height, width = (max(1, round(side * scale)) for side in size_hw)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
