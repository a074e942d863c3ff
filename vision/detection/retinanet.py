"""The family "retinanet" (Lin et al. 2017b, section 4): a pyramid of full 3x3 convolutions, and two towers of four.

One departure: the towers have group normalisation (Wu and He 2018), as later RetinaNets do, so that they train at the
learning rates of the other families.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig
from vision.detection.fpn_lite import top_down
from vision.detection.network import PRIOR_LOGIT, AnchorDetectorNetwork, Neck, split_strides

CHANNELS_PER_GROUP = 8  # of 256 channels this makes the 32 groups of Wu and He


def build_retinanet(
    backbone: Backbone, *, num_classes: int, anchors: AnchorConfig, channels: int, head_depth: int
) -> AnchorDetectorNetwork:
    """Return the network: ``channels`` wide (256 in the paper), ``head_depth`` convolutions in each tower (4)."""
    shapes = len(anchors.shapes)
    neck = FullPyramid(backbone, anchors.strides, channels)
    class_head = Tower(channels, head_depth, shapes * num_classes, bias=PRIOR_LOGIT)
    box_head = Tower(channels, head_depth, shapes * 4)
    return AnchorDetectorNetwork(backbone, neck, class_head, box_head, num_classes=num_classes, anchors=anchors)


class FullPyramid(Neck):
    """FPN with full 3x3 convolutions; the first extra level comes from the backbone's last map, as in the paper."""

    def __init__(self, backbone: Backbone, strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides, extra = split_strides(backbone, strides)
        self.channels = [channels] * len(strides)
        inputs = [backbone.channels_at(stride) for stride in self.strides]
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in inputs)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in inputs)
        self.extra = nn.ModuleList(
            nn.Conv2d(inputs[-1] if place == 0 else channels, channels, 3, stride=2, padding=1)
            for place in range(len(extra))
        )
        for conv in (*self.lateral, *self.smooth, *self.extra):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map [B, channels, h, w] a level from the backbone's maps at the same strides."""
        merged = top_down([lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)])
        levels = [smooth(feature) for smooth, feature in zip(self.smooth, merged, strict=True)]
        coarsest = features[-1]
        for place, extra in enumerate(self.extra):
            coarsest = extra(coarsest if place == 0 else F.relu(coarsest))
            levels.append(coarsest)
        return levels


class Tower(nn.Module):
    """3x3 convolutions with group norm and ReLU, then the prediction; the same weights on every level."""

    def __init__(self, channels: int, depth: int, outputs: int, *, bias: float = 0.0) -> None:
        super().__init__()
        # A group of one channel would have a single value on the coarsest map of a small picture.
        groups = math.gcd(channels, max(1, channels // CHANNELS_PER_GROUP))
        layers: list[nn.Module] = []
        for _ in range(depth):
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            nn.init.normal_(conv.weight, std=0.01)
            layers += [conv, nn.GroupNorm(groups, channels), nn.ReLU(inplace=True)]
        self.tower = nn.Sequential(*layers)
        self.predict = nn.Conv2d(channels, outputs, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.constant_(self.predict.bias, bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return predictions [B, outputs, h, w] of each level."""
        return [self.predict(self.tower(level)) for level in levels]
