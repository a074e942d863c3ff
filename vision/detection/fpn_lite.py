"""The family "fpn-lite": feature pyramid and shared heads of separable convolutions, light enough for a CPU.

Feature pyramid: Lin et al. 2017a; one head for all levels and the prior of its bias: Lin et al. 2017b (RetinaNet,
sections 4 and 4.1); separable convolutions with batch statistics of their own for each level: Tan et al. 2020
(EfficientDet).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig
from vision.detection.network import PRIOR_LOGIT, AnchorDetectorNetwork, Neck, split_strides


def build_fpn_lite(
    backbone: Backbone, *, num_classes: int, anchors: AnchorConfig, channels: int, head_depth: int
) -> AnchorDetectorNetwork:
    """Return the network: ``channels`` wide in neck and heads, ``head_depth`` convolutions before each prediction."""
    shapes, levels = len(anchors.shapes), len(anchors.strides)
    # In this order: a seed gives the same weights as it did when the network built its own parts.
    neck = FeaturePyramid(backbone, anchors.strides, channels)
    class_head = SharedHead(channels, head_depth, levels, shapes * num_classes)
    box_head = SharedHead(channels, head_depth, levels, shapes * 4)
    nn.init.constant_(class_head.predict.bias, PRIOR_LOGIT)  # type: ignore[arg-type]
    return AnchorDetectorNetwork(backbone, neck, class_head, box_head, num_classes=num_classes, anchors=anchors)


class FeaturePyramid(Neck):
    """FPN-lite: lateral 1x1 convolutions, top-down addition, separable smoothing, extra coarse levels by stride 2."""

    def __init__(self, backbone: Backbone, strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides, extra = split_strides(backbone, strides)
        self.channels = [channels] * len(strides)
        self.lateral = nn.ModuleList(_conv_norm(backbone.channels_at(stride), channels) for stride in self.strides)
        self.smooth = nn.ModuleList(_separable_norm(channels) for _ in self.strides)
        self.extra = nn.ModuleList(_separable_norm(channels, stride=2) for _ in extra)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map [B, channels, H / stride, W / stride] a level from the backbone's maps at the same strides."""
        merged = top_down([lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)])
        levels = [F.relu6(smooth(feature)) for smooth, feature in zip(self.smooth, merged, strict=True)]
        for extra in self.extra:
            levels.append(F.relu6(extra(levels[-1])))
        return levels


class SharedHead(nn.Module):
    """A tower of separable convolutions applied to every level with the same weights; batch norms are each level's
    own."""

    def __init__(self, channels: int, depth: int, levels: int, outputs: int) -> None:
        super().__init__()
        self.tower = nn.ModuleList(separable_conv(channels, channels) for _ in range(depth))
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(depth)) for _ in range(levels))
        self.predict = nn.Conv2d(channels, outputs, 3, padding=1)
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return predictions [B, outputs, h, w] of each level."""
        predictions = []
        for feature, norms in zip(levels, self.norms, strict=True):
            x = feature
            for conv, norm in zip(self.tower, cast(nn.ModuleList, norms), strict=True):
                x = F.relu6(norm(conv(x)))
            predictions.append(self.predict(x))
        return predictions


def top_down(laterals: list[Tensor]) -> list[Tensor]:
    """Return maps [B, C, h, w], finest first, each with the doubled next coarser one added to it."""
    merged = list(laterals)
    for level in range(len(merged) - 2, -1, -1):
        # Every input is a multiple of the backbone's coarsest stride, so doubling fits exactly.
        merged[level] = merged[level] + F.interpolate(merged[level + 1], scale_factor=2.0, mode="nearest")
    return merged


def separable_conv(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise 1x1 convolution without activation or bias."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride=stride, padding=1, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
    )


def _conv_norm(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a 1x1 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def _separable_norm(channels: int, *, stride: int = 1) -> nn.Sequential:
    """Return a separable convolution with batch norm."""
    return nn.Sequential(separable_conv(channels, channels, stride=stride), nn.BatchNorm2d(channels))
