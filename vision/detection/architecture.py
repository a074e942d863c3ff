"""What an anchor detector's network is made of: one value that training decides, the card stores, the loader reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig, anchor_config_from
from vision.detection.config import DetectorFamily
from vision.detection.fpn_lite import build_fpn_lite
from vision.detection.network import AnchorDetectorNetwork
from vision.detection.retinanet import build_retinanet
from vision.detection.ssd import build_ssd, build_ssdlite

THIRDS = (1.0, 2.0, 0.5, 3.0, 1 / 3)  # the ratios of SSD


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorArchitecture:
    """The network of an anchor detector, but for the number of classes.

    Attributes:
        family: key of ``FAMILIES``.
        backbone: name in the registry of backbones.
        channels: width of the neck (fpn-lite, retinanet: and of the heads; ssd, ssdlite: of the extra layers).
        head_depth: convolutions before each prediction; 0 for ssd and ssdlite.
        anchors: strides and shapes.
    """

    family: DetectorFamily
    backbone: str
    channels: int
    head_depth: int
    anchors: AnchorConfig

    def to_dict(self) -> dict[str, Any]:
        """Return the table of a model card; ``architecture_from`` reads it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of network: how it is built, and the sizes that its paper chose."""

    build: Callable[..., AnchorDetectorNetwork]
    channels: int
    head_depth: int
    anchors: AnchorConfig


FAMILIES: dict[DetectorFamily, Family] = {
    "fpn-lite": Family(build=build_fpn_lite, channels=96, head_depth=3, anchors=AnchorConfig()),
    "retinanet": Family(
        build=build_retinanet,
        channels=256,
        head_depth=4,
        anchors=AnchorConfig(strides=(8, 16, 32, 64, 128), ratios=(0.5, 1.0, 2.0), octaves=3),
    ),
    "ssd": Family(
        build=build_ssd,
        channels=256,
        head_depth=0,
        anchors=AnchorConfig(strides=(8, 16, 32, 64, 128), ratios=THIRDS, between=True),
    ),
    "ssdlite": Family(
        build=build_ssdlite,
        channels=256,
        head_depth=0,
        anchors=AnchorConfig(strides=(16, 32, 64, 128), scale=3.0, ratios=THIRDS, between=True),
    ),
}


def architecture_from(table: Mapping[str, Any]) -> DetectorArchitecture:
    """Return the architecture that the table of a model card describes; KeyError for a key that is not there.

    Cards from before there was a choice name no family: they are fpn-lite.
    """
    return DetectorArchitecture(
        family=table.get("family", "fpn-lite"),
        backbone=table["backbone"],
        channels=int(table["channels"]),
        head_depth=int(table["head_depth"]),
        anchors=anchor_config_from(table["anchors"]),
    )


def make_architecture(
    family: DetectorFamily,
    backbone: str,
    *,
    channels: int = 0,
    head_depth: int = 0,
    strides: tuple[int, ...] = (),
    anchor_scale: float = 0.0,
    anchor_ratios: tuple[float, ...] = (),
    anchor_octaves: int = 0,
) -> DetectorArchitecture:
    """Return the architecture of a family; 0 and empty take the family's own sizes.

    Ratios of one's own replace all shapes of a cell, SSD's larger square included.
    """
    own = FAMILIES[family]
    anchors = AnchorConfig(
        strides=strides or own.anchors.strides,
        scale=anchor_scale or own.anchors.scale,
        ratios=anchor_ratios or own.anchors.ratios,
        octaves=anchor_octaves or own.anchors.octaves,
        between=own.anchors.between and not anchor_ratios,
    )
    return DetectorArchitecture(
        family=family,
        backbone=backbone,
        channels=channels or own.channels,
        head_depth=head_depth or own.head_depth,
        anchors=anchors,
    )


def build_network(architecture: DetectorArchitecture, backbone: Backbone, *, num_classes: int) -> AnchorDetectorNetwork:
    """Return the network with fresh neck and heads on ``backbone``, which must be the one of that name."""
    return FAMILIES[architecture.family].build(
        backbone,
        num_classes=num_classes,
        anchors=architecture.anchors,
        channels=architecture.channels,
        head_depth=architecture.head_depth,
    )
