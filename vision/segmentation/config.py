"""Settings of the segmentation stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vision.errors import ConfigError

DEFAULT_OVERLAP = 0.25
PADDED_MULTIPLE = 64
SMALLEST_TILE = 32
# What pixels of classes that are not kept become.
OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterConfig:
    """How the segmenter runs on a frame.

    Attributes:
        model: name in the model store, path to a model folder, or one of torchvision's segmenters
            (``vision.segmentation.torchvision_segmenters``).
        weights: for torchvision's, a checkpoint file in place of the published weights; empty takes those.
        classes: names of the classes to keep; all other pixels become "other", which is then label 0. Empty keeps all.
        long_side: longer side in pixels that a picture is scaled to; 0 takes the model's own.
        scores: also give the probability of the chosen class for each pixel, of "other" that of all classes which are
            not kept; costs about as much as the map itself.
        tile: side in pixels of the square tiles that a large picture is cut into, at its full size, at least 32; 0
            takes it whole.
        tile_overlap: share of a tile that it has in common with the next, in [0, 0.9].
        max_batch: most pictures or tiles in one forward pass; bounds the memory.
    """

    model: str = "street-fcn8s"
    weights: str = ""
    classes: tuple[str, ...] = ()
    long_side: int = 0
    scores: bool = False
    tile: int = 0
    tile_overlap: float = DEFAULT_OVERLAP
    max_batch: int = 4

    def __post_init__(self) -> None:
        if self.long_side < 0 or self.max_batch < 1:
            raise ConfigError(
                f"segmentation.long_side must be >= 0 and max_batch >= 1, got {self.long_side} and {self.max_batch}; 0 "
                "and 4 are the defaults"
            )
        if self.tile < 0 or 0 < self.tile < SMALLEST_TILE:
            raise ConfigError(
                f"segmentation.tile must be 0 (off) or at least {SMALLEST_TILE} pixels, got {self.tile}; the size of "
                "the model's training pictures is a good start"
            )
        if not 0 <= self.tile_overlap <= 0.9:
            raise ConfigError(
                f"segmentation.tile_overlap must be in [0, 0.9], got {self.tile_overlap}; 0.25 is the default"
            )
