"""The anchor detector's network: backbone, FPN-lite neck and heads shared by all levels.

Feature pyramid: Lin et al. 2017a; one head for all levels and the prior of its bias: Lin et al. 2017b (RetinaNet,
sections 4 and 4.1); separable convolutions with batch statistics of their own for each level: Tan et al. 2020
(EfficientDet).
Legend: B batch, C channels, A anchors of all levels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig
from vision.errors import ConfigError

PRIOR = 0.01  # foreground probability at the start of training, so that background does not drown the first steps


def separable_conv(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise 1x1 convolution without activation or bias."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride=stride, padding=1, groups=channels_in, bias=False),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
    )


class FeaturePyramid(nn.Module):
    """FPN-lite: lateral 1x1 convolutions, top-down addition, separable smoothing, extra coarse levels by stride 2."""

    def __init__(self, backbone: Backbone, strides: Sequence[int], channels: int) -> None:
        super().__init__()
        self.strides = [stride for stride in strides if stride in backbone.strides]
        extra = [stride for stride in strides if stride > max(backbone.strides)]
        # Levels are joined by doubling: a gap would add maps of different sizes.
        doubles = all(coarse == 2 * fine for fine, coarse in pairwise(strides))
        if self.strides + extra != list(strides) or not self.strides or not doubles:
            raise ConfigError(
                f"detector strides must be of {backbone.name}'s {backbone.strides} or doublings above, "
                f"each twice the one before, got {tuple(strides)}"
            )
        self.lateral = nn.ModuleList(_conv_norm(backbone.channels_at(stride), channels) for stride in self.strides)
        self.smooth = nn.ModuleList(_separable_norm(channels) for _ in self.strides)
        self.extra = nn.ModuleList(_separable_norm(channels, stride=2) for _ in extra)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map [B, channels, H / stride, W / stride] a level from the backbone's maps at the same strides."""
        merged = [lateral(feature) for lateral, feature in zip(self.lateral, features, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            # Every input is a multiple of the coarsest stride, so doubling fits exactly.
            merged[level] = merged[level] + F.interpolate(merged[level + 1], scale_factor=2.0, mode="nearest")
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


class AnchorDetectorNetwork(nn.Module):
    """Images [B,3,H,W] to class logits [B,A,K] and box deltas [B,A,4]; loss, inference and export share this
    forward."""

    def __init__(
        self, backbone: Backbone, *, num_classes: int, anchors: AnchorConfig, channels: int = 96, head_depth: int = 3
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.anchors = anchors
        self.num_classes = num_classes
        self.neck = FeaturePyramid(backbone, anchors.strides, channels)
        shapes, levels = len(anchors.ratios), len(anchors.strides)
        self.class_head = SharedHead(channels, head_depth, levels, shapes * num_classes)
        self.box_head = SharedHead(channels, head_depth, levels, shapes * 4)
        nn.init.constant_(self.class_head.predict.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
        """Return logits [B,A,K] and deltas [B,A,4]; H and W must be multiples of the coarsest stride."""
        features = self.backbone.select(self.backbone(images_BCHW), self.neck.strides)
        levels = self.neck(features)
        return _flatten(self.class_head(levels), self.num_classes), _flatten(self.box_head(levels), 4)


def _flatten(predictions: Sequence[Tensor], width: int) -> Tensor:
    """Return [B, A, width] of maps [B, R * width, h, w], rows then columns then anchor shapes, level by level."""
    return torch.cat([p.permute(0, 2, 3, 1).reshape(p.shape[0], -1, width) for p in predictions], dim=1)


def _conv_norm(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a 1x1 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def _separable_norm(channels: int, *, stride: int = 1) -> nn.Sequential:
    """Return a separable convolution with batch norm."""
    return nn.Sequential(separable_conv(channels, channels, stride=stride), nn.BatchNorm2d(channels))
