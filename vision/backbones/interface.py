"""The one interface of all backbones: a chain of stages whose outputs form a feature pyramid, and the classifier made
of them.

Legend of shape suffixes: B batch, C channels, H and W pixels of the network input, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from vision.errors import InvalidInputError
from vision.runtime.preprocess import Normalization

# The two conventions in use: TensorFlow's (Lite family) and torchvision's ImageNet statistics.
TENSORFLOW_NORMALIZATION = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
IMAGENET_NORMALIZATION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


# Maps images to the feature maps of the first stages of a backbone.
Trunk = Callable[[Tensor], tuple[Tensor, ...]]


class Backbone(nn.Module):
    """A CNN feature extractor: ``forward`` maps images [B,3,H,W] to one feature map for each of its strides.

    Attributes:
        name: registry name, for cards and messages.
        strides: input pixels for one feature cell, ascending, for example (4, 8, 16, 32).
        channels: channels of each feature map.
        normalization: input constants of the weights.
    """

    def __init__(
        self,
        name: str,
        stages: Sequence[nn.Module],
        *,
        strides: tuple[int, ...],
        channels: tuple[int, ...],
        normalization: Normalization,
    ) -> None:
        super().__init__()
        if not len(stages) == len(strides) == len(channels):
            raise InvalidInputError(
                f"a backbone needs one stride and channel count for each stage, got {len(stages)} stages, "
                f"strides {strides}, channels {channels}"
            )
        self.name = name
        self.stages = nn.ModuleList(stages)
        self.strides = strides
        self.channels = channels
        self.normalization = normalization
        self._frozen_stages = 0
        self._trunk: Trunk | None = None

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:  # noqa: N803 - shape suffix
        """Return features [B, channels[i], H / strides[i], W / strides[i]]; H and W must be multiples of the last
        stride.

        The sizes are a contract of the caller (`Letterbox` pads to it): a check here would turn into graph nodes on
        export.
        """
        features = [] if self._trunk is None else list(self._trunk(images_BCHW))
        x = features[-1] if features else images_BCHW
        for stage in list(self.stages)[len(features) :]:
            x = stage(x)
            features.append(x)
        return tuple(features)

    def select(self, features: tuple[Tensor, ...], strides: Sequence[int]) -> list[Tensor]:
        """Return the feature maps of the given strides, in that order."""
        return [features[self.strides.index(stride)] for stride in strides]

    def channels_at(self, stride: int) -> int:
        """Return the channel count of the feature map of a stride; raises InvalidInputError if there is none."""
        if stride not in self.strides:
            raise InvalidInputError(
                f"{self.name} has features of strides {self.strides}, got {stride}; choose one of these"
            )
        return self.channels[self.strides.index(stride)]

    def freeze(self, up_to_stride: int) -> None:
        """Stop training of all stages up to the given stride, batch statistics included; 0 frees all."""
        self._frozen_stages = sum(stride <= up_to_stride for stride in self.strides)
        for index, stage in enumerate(self.stages):
            stage.requires_grad_(index >= self._frozen_stages)
        self.train(self.training)

    def frozen_stages(self) -> nn.Sequential:
        """Return the stages that ``freeze`` stopped, in order."""
        return nn.Sequential(*list(self.stages)[: self._frozen_stages])

    def use_trunk(self, trunk: Trunk | None) -> None:
        """Let ``trunk`` compute the feature maps of the first stages; it must equal them. None restores the stages."""
        self._trunk = trunk

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training mode, except for frozen stages, whose batch statistics must not drift."""
        super().train(mode)
        for stage in list(self.stages)[: self._frozen_stages]:
            stage.eval()
        return self


class Classifier(nn.Module):
    """A backbone with its classification head: images [B,3,H,W] to logits [B,K]."""

    def __init__(self, backbone: Backbone, head: nn.Module, *, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return class logits [B, K]."""
        logits: Tensor = self.head(self.backbone(images_BCHW)[-1])
        return logits


def pool_flatten() -> nn.Sequential:
    """Return global average pooling to [B, C]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
