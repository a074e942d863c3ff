"""The anchor detector's network, whatever its family: backbone, neck, and a head each for classes and boxes.

The families differ in neck and heads (fpn_lite.py, retinanet.py, ssd.py) and share all that follows: one order of rows,
one coding of boxes, one score a class, so that loss, decoding, engines and cards serve them alike.
Legend: B batch, C channels, A anchors of all levels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vision.backbones.interface import Backbone
from vision.detection.anchors import AnchorConfig
from vision.errors import ConfigError

PRIOR = 0.01  # foreground probability at the start of training, so that background does not drown the first steps
PRIOR_LOGIT = -math.log((1 - PRIOR) / PRIOR)
# Levels coarser than this are made by rounding up: padding to their stride would cost more than they find.
LARGEST_MULTIPLE = 64


class Neck(nn.Module):
    """From the backbone's maps to one map for each level of the detector.

    Attributes:
        strides: strides of the backbone's maps that ``forward`` takes, in order.
        channels: channels of each level that ``forward`` returns; their number is the number of levels.
    """

    strides: list[int]
    channels: list[int]


class AnchorDetectorNetwork(nn.Module):
    """Images [B,3,H,W] to class logits [B,A,K] and box deltas [B,A,4]; loss, inference and export share this
    forward."""

    def __init__(
        self,
        backbone: Backbone,
        neck: Neck,
        class_head: nn.Module,
        box_head: nn.Module,
        *,
        num_classes: int,
        anchors: AnchorConfig,
    ) -> None:
        """Join the parts; the heads map a list of levels to a list of predictions with K and 4 channels a shape."""
        super().__init__()
        self.backbone = backbone
        self.anchors = anchors
        self.num_classes = num_classes
        self.neck = neck
        # Of whole channels; training sets the rate, and outside of training it does nothing.
        self.dropout = nn.Dropout2d(0.0)
        self.class_head = class_head
        self.box_head = box_head

    @property
    def multiple(self) -> int:
        """What the height and width of an input must be multiples of."""
        return max(self.backbone.strides[-1], min(LARGEST_MULTIPLE, max(self.anchors.strides)))

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
        """Return logits [B,A,K] and deltas [B,A,4]; H and W must be multiples of ``multiple``."""
        return self.predict(self.backbone(images_BCHW))

    def predict(self, features: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return what ``forward`` returns, given all maps of the backbone."""
        levels = [self.dropout(level) for level in self.neck(self.backbone.select(features, self.neck.strides))]
        return _flatten(self.class_head(levels), self.num_classes), _flatten(self.box_head(levels), 4)


def split_strides(backbone: Backbone, strides: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the detector's strides that the backbone has, and the coarser ones to be made by halving.

    Raises:
        ConfigError: the strides do not double, or the finest is none of the backbone's.
    """
    own = [stride for stride in strides if stride in backbone.strides]
    extra = [stride for stride in strides if stride > max(backbone.strides)]
    # Levels are joined by doubling: a gap would add maps of different sizes.
    doubles = all(coarse == 2 * fine for fine, coarse in pairwise(strides))
    if own + extra != list(strides) or not own or not doubles:
        raise ConfigError(
            f"detector strides must be of {backbone.name}'s {backbone.strides} or doublings above, "
            f"each twice the one before, got {tuple(strides)}"
        )
    return own, extra


def _flatten(predictions: Sequence[Tensor], width: int) -> Tensor:
    """Return [B, A, width] of maps [B, R * width, h, w], rows then columns then anchor shapes, level by level."""
    return torch.cat([p.permute(0, 2, 3, 1).reshape(p.shape[0], -1, width) for p in predictions], dim=1)
