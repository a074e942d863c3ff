"""The feature maps of one frame: what the detection stage may hand to the appearance stage beside its boxes.

They come out of the forward pass that finds the boxes, so an embedding made of them costs no pass of its own
(docs/appearance-single-pass.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vision.errors import InvalidInputError
from vision.geometry.letterbox import Letterbox
from vision.types import FloatArray, Frame
from vision.validation import describe


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMaps:
    """A backbone's maps of one frame.

    Attributes:
        letterbox: from the frame to the network's input, whose pixels the strides count.
        strides: input pixels for one cell of each map, ascending.
        maps: float32 [C, H / stride, W / stride] for each stride, H and W of the padded input.
        digest: sha256 of the weights file that the backbone came from; features of other weights mean other things.
    """

    letterbox: Letterbox
    strides: tuple[int, ...]
    maps: tuple[FloatArray, ...]
    digest: str

    def __post_init__(self) -> None:
        height, width = self.letterbox.padded_hw
        expected = [(height // stride, width // stride) for stride in self.strides]
        if [tuple(feature.shape[1:]) for feature in self.maps] != expected:
            raise InvalidInputError(
                f"feature maps of strides {self.strides} of an input of {height} x {width} must have the sizes "
                f"{expected}, got {[describe(feature) for feature in self.maps]}; pass the maps of the same letterbox"
            )

    def select(self, strides: tuple[int, ...]) -> FeatureMaps:
        """Return the maps of these strides alone, in that order; InvalidInputError if one is not there."""
        missing = [stride for stride in strides if stride not in self.strides]
        if missing:
            raise InvalidInputError(
                f"feature maps of strides {strides} are wanted, got those of {self.strides}; load the detector with "
                f"map_strides that include {missing[0]}"
            )
        maps = tuple(self.maps[self.strides.index(stride)] for stride in strides)
        return FeatureMaps(self.letterbox, strides, maps, self.digest)


class MapSource(Protocol):
    """What computes feature maps of frames without looking for objects."""

    def extract(self, frames: Sequence[Frame], *, long_side: int = 0) -> list[FeatureMaps]:
        """Return the maps of each frame, in order; frames of any sizes.

        Args:
            frames: pictures.
            long_side: longer side of the network's input in pixels; 0 takes the source's own.
        """
        ...
