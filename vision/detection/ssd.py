"""The families "ssd" (Liu et al. 2016) and "ssdlite" (Sandler et al. 2018, section 6.2): predictions straight from the
backbone's maps and a chain of ever coarser layers, with a small head of its own for each level.

The papers fix the input at 300 or 320 pixels and size the anchors by it. Here the input has any size, so the levels
double and the anchors grow with the stride. SSDLite replaces the convolutions of extra layers and heads by separable
ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig
from vision.detection.fpn_lite import separable_conv
from vision.detection.network import PRIOR_LOGIT, AnchorDetectorNetwork, Neck, split_strides
from vision.errors import ConfigError

L2_SCALE = 20.0  # start of the learnt norm of the finest map (Liu 2016, section 3.1)


def build_ssd(
    backbone: Backbone,
    *,
    num_classes: int,
    anchors: AnchorConfig,
    channels: int,
    head_depth: int,
    lite: bool = False,
) -> AnchorDetectorNetwork:
    """Return the network.

    Args:
        backbone: gives the finer levels.
        num_classes: K.
        anchors: strides and shapes.
        channels: of the extra layers; the first has twice as many, as in the paper (512, then 256).
        head_depth: must be 0: these heads predict at once.
        lite: separable convolutions in extra layers and heads (SSDLite).
    """
    if head_depth:
        raise ConfigError(f"the heads of ssd and ssdlite have no tower, got head_depth={head_depth}; leave it out")
    shapes = len(anchors.shapes)
    neck = SsdLevels(backbone, anchors.strides, channels, lite=lite)
    class_head = LevelHeads(neck.channels, shapes * num_classes, lite=lite, bias=PRIOR_LOGIT)
    box_head = LevelHeads(neck.channels, shapes * 4, lite=lite)
    return AnchorDetectorNetwork(backbone, neck, class_head, box_head, num_classes=num_classes, anchors=anchors)


build_ssdlite = partial(build_ssd, lite=True)


class SsdLevels(Neck):
    """The backbone's maps as they are (the finest one normalised in SSD), and a chain of layers of stride 2."""

    def __init__(self, backbone: Backbone, strides: Sequence[int], channels: int, *, lite: bool) -> None:
        super().__init__()
        self.strides, extra = split_strides(backbone, strides)
        self.channels = [backbone.channels_at(stride) for stride in self.strides]
        # The finest map has a larger scale than the deeper ones; the bounded activations of the light backbones do not.
        self.finest = nn.Identity() if lite else ChannelNorm(self.channels[0])
        extra_layers = []
        for place in range(len(extra)):
            width = 2 * channels if place == 0 else channels
            extra_layers.append(_halving(self.channels[-1], width, lite=lite))
            self.channels.append(width)
        self.extra = nn.ModuleList(extra_layers)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return one map [B, channels[i], h, w] a level from the backbone's maps at the same strides."""
        levels = [self.finest(features[0]), *features[1:]]
        coarsest = features[-1]
        for extra in self.extra:
            coarsest = extra(coarsest)
            levels.append(coarsest)
        return levels


class ChannelNorm(nn.Module):
    """Divides the channels at each place by their Euclidean norm and multiplies by a learnt scale a channel (Liu et al.
    2015, ParseNet)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, channels, 1, 1), L2_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C, h, w] of the same shape."""
        return F.normalize(x, dim=1) * self.scale


class LevelHeads(nn.Module):
    """One 3x3 convolution a level (separable in SSDLite), weights not shared."""

    def __init__(self, channels: Sequence[int], outputs: int, *, lite: bool, bias: float = 0.0) -> None:
        super().__init__()
        self.predict = nn.ModuleList(_predictor(width, outputs, lite=lite, bias=bias) for width in channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return predictions [B, outputs, h, w] of each level."""
        return [predict(level) for predict, level in zip(self.predict, levels, strict=True)]


def _predictor(channels: int, outputs: int, *, lite: bool, bias: float) -> nn.Module:
    if lite:
        last = nn.Conv2d(channels, outputs, 1)
        spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        layers: nn.Module = nn.Sequential(spatial, nn.BatchNorm2d(channels), nn.ReLU6(inplace=True), last)
    else:
        last = nn.Conv2d(channels, outputs, 3, padding=1)
        layers = last
    nn.init.normal_(last.weight, std=0.01)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return layers


def _halving(channels_in: int, channels_out: int, *, lite: bool) -> nn.Sequential:
    """Return a 1x1 squeeze and a 3x3 of stride 2, with batch norm, which the paper's VGG did without."""
    squeezed = channels_out // 2
    activation = nn.ReLU6 if lite else nn.ReLU
    halve = (
        separable_conv(squeezed, channels_out, stride=2)
        if lite
        else nn.Conv2d(squeezed, channels_out, 3, stride=2, padding=1, bias=False)
    )
    return nn.Sequential(
        nn.Conv2d(channels_in, squeezed, 1, bias=False),
        nn.BatchNorm2d(squeezed),
        activation(inplace=True),
        halve,
        nn.BatchNorm2d(channels_out),
        activation(inplace=True),
    )
