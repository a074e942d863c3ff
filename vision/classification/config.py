"""Settings of the classification stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vision.errors import ConfigError

Task = Literal["multiclass", "multilabel", "regression"]
# How a picture of any shape fills the network's input.
Resize = Literal["crop", "stretch", "letterbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierConfig:
    """How the classifier runs on a frame.

    Attributes:
        model: name in the model store, path to a model folder, or the name of a backbone, which then tells the 1000
            classes of ImageNet with its published weights.
        top: classes reported for a frame, surest first; 0 reports all.
        threshold: lowest probability at which a multi-label classifier assigns a class, in [0, 1]; "auto" takes the
            model card's.
        max_batch: most pictures in one forward pass; bounds the memory.
        heat_class: class that heat maps show; empty takes each picture's best.
        heat_long_side: longer side in pixels that a picture is scaled to for its heat map, >= 32.
        heat_window: side in pixels of the windows that a heat map classifies; 0 takes the size that the model is made
            for. Networks with global pooling can have smaller ones, which tell the place better and the class worse.
    """

    model: str = "tf_efficientnet_lite0"
    top: int = 5
    threshold: float | Literal["auto"] = "auto"
    max_batch: int = 64
    heat_class: str = ""
    heat_long_side: int = 640
    heat_window: int = 0

    def __post_init__(self) -> None:
        if self.top < 0 or self.max_batch < 1:
            raise ConfigError(
                f"classification.top must be >= 0 and max_batch >= 1, got {self.top} and {self.max_batch}; "
                "5 and 64 are the defaults"
            )
        if self.heat_long_side < 32 or self.heat_window < 0:
            raise ConfigError(
                f"classification.heat_long_side must be >= 32 and heat_window >= 0, got {self.heat_long_side} and "
                f"{self.heat_window}; 640 and 0 are the defaults"
            )
        if self.threshold != "auto" and not 0 <= self.threshold <= 1:
            raise ConfigError(
                f"classification.threshold must be in [0, 1], got {self.threshold}; auto takes the model's own"
            )
