"""FCN-32s, FCN-16s and FCN-8s on any backbone (Long, Shelhamer, Darrell 2015, "Fully Convolutional Networks").

A 1x1 convolution scores the classes on the deepest feature map. The scores are enlarged to the next finer map, whose
own scores are added, and so on down to the network's stride; the sum is enlarged to the size of the picture. Scores of
finer maps start at zero: at first a network with skips is the one without (section 4.2).

Legend of shape suffixes: B batch, H and W pixels of the network input, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.interface import Backbone
from vision.errors import ConfigError, InvalidInputError
from vision.segmentation.upsampling import Upsampling


class FCN(nn.Module):
    """Images [B, 3, H, W] to logits [B, K, H, W], of any height and width.

    Args:
        backbone: any of the package.
        num_classes: K, >= 2.
        stride: of the finest map that is scored; the backbone's last is FCN-32s, half of it FCN-16s, a quarter FCN-8s.
        width: channels of a 3x3 convolution with batch norm before the coarsest scores, which stands for the paper's
            convolutional fc6 and fc7; 0 scores the backbone's map itself.
        learnable: train the upsampling, too.
        dropout: before the coarsest scores.

    Attributes:
        strides: of the maps that are scored, coarsest first.
        multiple: ``coarse`` and ``maps`` want heights and widths that are multiples of this; ``forward`` pads to it.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        stride: int = 8,
        width: int = 0,
        learnable: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"a segmenter tells at least two classes apart, got {num_classes}; add background")
        if stride not in backbone.strides:
            raise ConfigError(
                f"stride must be one of the feature maps of {backbone.name}, {list(backbone.strides)}, got {stride}"
            )
        self.backbone = backbone
        self.num_classes = num_classes
        self.stride = stride
        self.learnable = learnable
        self.multiple = backbone.strides[-1]
        self.strides = tuple(each for each in reversed(backbone.strides) if each >= stride)
        channels = backbone.channels_at(self.multiple)
        self.head = nn.Identity() if not width else _convolution(channels, width)
        self.dropout = nn.Dropout2d(dropout)
        self.score = nn.ModuleDict(
            {str(each): nn.Conv2d(backbone.channels_at(each), num_classes, 1) for each in self.strides}
        )
        if width:
            self.score[str(self.multiple)] = nn.Conv2d(width, num_classes, 1)
        for finer in self.strides[1:]:
            nn.init.zeros_(self.score[str(finer)].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.score[str(finer)].bias)  # type: ignore[arg-type]
        factors = [coarse // fine for coarse, fine in zip(self.strides, self.strides[1:], strict=False)]
        self.fuse = nn.ModuleList(Upsampling(num_classes, factor, learnable=learnable) for factor in factors)
        self.enlarge = Upsampling(num_classes, stride, learnable=learnable)

    def coarse(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return logits [B, K, H / stride, W / stride], before the last enlargement."""
        return self.fuse_scores(self.maps(images_BCHW))

    def maps(self, images_BCHW: Tensor) -> list[Tensor]:  # noqa: N803 - shape suffix
        """Return the feature maps that are scored, coarsest first, each of the input's size / stride.

        Raises:
            InvalidInputError: height or width is no multiple of ``multiple``.
        """
        height, width = images_BCHW.shape[2:]
        # An export traces sizes as tensors, which a check would turn into graph nodes; engines keep to the contract.
        if not torch.onnx.is_in_onnx_export() and (height % self.multiple or width % self.multiple):
            raise InvalidInputError(
                f"feature maps need a height and width that are multiples of {self.multiple}, got {height} x {width}; "
                "pad the pictures, or call the network itself, which pads and cuts back"
            )
        # Networks whose first convolutions are not padded lack cells at the border: give them more picture, all zeros.
        missing = self.backbone.trim[-1] * self.multiple
        if missing:
            images_BCHW = F.pad(images_BCHW, (missing // 2, missing - missing // 2) * 2)
        features = self.backbone.select(self.backbone(images_BCHW), self.strides)
        if not missing:
            return features
        return [_middle(each, height // at, width // at) for each, at in zip(features, self.strides, strict=True)]

    def fuse_scores(self, maps: list[Tensor]) -> Tensor:
        """Return the logits of ``coarse`` from the feature maps of ``strides``."""
        scores: Tensor = self.score[str(self.strides[0])](self.dropout(self.head(maps[0])))
        for stride, enlarge, features in zip(self.strides[1:], self.fuse, maps[1:], strict=True):
            scores = enlarge(scores) + self.score[str(stride)](features)
        return scores

    def exported(self, coarse_BKhw: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return what an engine is to return for the logits of ``coarse``: themselves, as the fixed last enlargement is
        dearer in a network than outside, or enlarged by what was learnt."""
        return self.enlarge(coarse_BKhw) if self.learnable else coarse_BKhw

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return logits [B, K, H, W]: zeros to the right and below fill the input up and are cut off again."""
        height, width = images_BCHW.shape[2:]
        padded = F.pad(images_BCHW, (0, -width % self.multiple, 0, -height % self.multiple))
        logits: Tensor = self.enlarge(self.coarse(padded))
        return logits[:, :, :height, :width]


def _convolution(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True)
    )


def _middle(features: Tensor, height: int, width: int) -> Tensor:
    """Return the middle [B, C, height, width] of a map that is at least so large."""
    top, left = (features.shape[2] - height) // 2, (features.shape[3] - width) // 2
    return features[:, :, top : top + height, left : left + width]
