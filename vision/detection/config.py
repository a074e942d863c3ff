"""Settings of the detection stage; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vision.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorConfig:
    """How the detector runs on a frame.

    Attributes:
        model: name in the model store, or a path to a model folder.
        long_side: pixels of the longer side of the network input; 0 takes the model card's value.
        conf: lowest score kept, in [0, 1].
        iou: overlap above which NMS drops the lower score, in (0, 1].
        max_det: most detections kept in a frame.
        pre_nms: most candidates that enter NMS.
        class_agnostic: NMS across classes instead of within each class.
        classes: names of the classes to keep; empty keeps all.
    """

    model: str = "person-lite0"
    long_side: int = 0
    conf: float = 0.35
    iou: float = 0.5
    max_det: int = 300
    pre_nms: int = 1000
    class_agnostic: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.conf <= 1:
            raise ConfigError(f"detection.conf must be in [0, 1], got {self.conf}; 0.35 is the default")
        if not 0 < self.iou <= 1:
            raise ConfigError(f"detection.iou must be in (0, 1], got {self.iou}; 0.5 is the default")
        if self.long_side < 0 or self.max_det < 1 or self.pre_nms < 1:
            raise ConfigError(
                "detection.long_side must be >= 0, max_det and pre_nms >= 1, got "
                f"{self.long_side}, {self.max_det}, {self.pre_nms}; leave them out for the defaults"
            )
