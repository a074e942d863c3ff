"""Settings of the detection stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from vision.errors import ConfigError

DetectorFamily = Literal["fpn-lite", "retinanet", "ssd", "ssdlite"]
TileMatch = Literal["border", "ios", "iou"]
SMALLEST_TILE = 32
FALLBACK_CONF = 0.35  # where neither the user nor the model's card names a threshold
# AP integrates over all thresholds: low scores must come along. 0.01 changes AP by less than 0.001 against 0.
EVALUATION_CONF = 0.01
# COCO counts at most so many detections of a picture.
EVALUATION_MAX_DET = 100
FALLBACK_IOU = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """How the detector runs on a frame.

    Attributes:
        model: name in the model store, path to a model folder, or name of a torchvision COCO detector.
        weights: checkpoint file of a torchvision COCO detector, in place of the cached one; empty for models that have
            a card.
        long_side: pixels of the longer side of the network input; 0 takes the model card's value.
        conf: lowest score kept, in [0, 1]; "auto" takes the threshold with the best F1 from the model's card.
        iou: overlap above which NMS drops the lower score, in (0, 1]; "auto" is 0.5, or what a torchvision detector
            brings along.
        max_det: most detections kept in a frame.
        pre_nms: most candidates that enter NMS.
        class_agnostic: NMS across classes instead of within each class.
        classes: names of the classes to keep; empty keeps all.
        tile: pixels of the side of a tile, at least 32; the picture is searched tile by tile. 0 takes it whole.
        overlap: share of a tile that its neighbour sees too, in [0, 0.9].
        tile_full: with tiles, search the whole picture as well, for objects larger than a tile.
        tile_match: when boxes of two tiles are one object: "border" (IoU, and for a box that a tile's border cuts also
            the share of it inside the other), "ios" (intersection over the smaller box) or "iou".
        tile_threshold: the match from which boxes are merged, in (0, 1].
        tile_batch: most tiles in one forward pass; bounds the memory.
    """

    model: str = "person-lite0"
    weights: str = ""
    long_side: int = 0
    conf: float | Literal["auto"] = "auto"
    iou: float | Literal["auto"] = "auto"
    max_det: int = 300
    pre_nms: int = 1000
    class_agnostic: bool = False
    classes: tuple[str, ...] = ()
    tile: int = 0
    overlap: float = 0.2
    tile_full: bool = True
    tile_match: TileMatch = "border"
    tile_threshold: float = 0.5
    tile_batch: int = 4

    def __post_init__(self) -> None:
        if self.conf != "auto" and not 0 <= self.conf <= 1:
            raise ConfigError(
                f"detection.conf must be in [0, 1], got {self.conf}; auto takes the model's best threshold"
            )
        if self.iou != "auto" and not 0 < self.iou <= 1:
            raise ConfigError(f"detection.iou must be in (0, 1], got {self.iou}; auto takes the model's own")
        if self.long_side < 0 or self.max_det < 1 or self.pre_nms < 1:
            raise ConfigError(
                "detection.long_side must be >= 0, max_det and pre_nms >= 1, got "
                f"{self.long_side}, {self.max_det}, {self.pre_nms}; leave them out for the defaults"
            )
        self._check_tiles()

    @property
    def score_floor(self) -> float:
        """The lowest score kept: ``conf``, or 0.35 while that is still "auto"."""
        return FALLBACK_CONF if self.conf == "auto" else self.conf

    @property
    def nms_iou(self) -> float:
        """The overlap of NMS: ``iou``, or 0.5 while that is "auto"."""
        return FALLBACK_IOU if self.iou == "auto" else self.iou

    def _check_tiles(self) -> None:
        if self.tile < 0 or 0 < self.tile < SMALLEST_TILE:
            raise ConfigError(
                f"detection.tile must be 0 (off) or at least {SMALLEST_TILE} pixels, got {self.tile}; "
                "the model's long_side is a good start"
            )
        if not 0 <= self.overlap <= 0.9:
            raise ConfigError(f"detection.overlap must be in [0, 0.9], got {self.overlap}; 0.2 is the default")
        if self.tile_match not in get_args(TileMatch):
            raise ConfigError(
                f"detection.tile_match must be one of {', '.join(get_args(TileMatch))}, got {self.tile_match!r}; "
                "border is the default"
            )
        if not 0 < self.tile_threshold <= 1:
            raise ConfigError(
                f"detection.tile_threshold must be in (0, 1], got {self.tile_threshold}; 0.5 is the default"
            )
        if self.tile_batch < 1:
            raise ConfigError(f"detection.tile_batch must be >= 1, got {self.tile_batch}; 4 is the default")
