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
    """

    model: str = "tf_efficientnet_lite0"
    top: int = 5
    threshold: float | Literal["auto"] = "auto"
    max_batch: int = 64

    def __post_init__(self) -> None:
        if self.top < 0 or self.max_batch < 1:
            raise ConfigError(
                f"classification.top must be >= 0 and max_batch >= 1, got {self.top} and {self.max_batch}; "
                "5 and 64 are the defaults"
            )
        if self.threshold != "auto" and not 0 <= self.threshold <= 1:
            raise ConfigError(
                f"classification.threshold must be in [0, 1], got {self.threshold}; auto takes the model's own"
            )
