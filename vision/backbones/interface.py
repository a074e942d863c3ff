"""The one interface of all backbones: a chain of stages whose outputs form a feature pyramid, and the classifier made
of them.

Legend of shape suffixes: B batch, C channels, H and W pixels of the network input, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor, nn

from vision.errors import InvalidInputError
from vision.runtime.preprocess import Normalization

# The conventions in use: TensorFlow's (Lite family), torchvision's ImageNet statistics, and [-1, 1] (GoogLeNet and our
# own small networks).
TENSORFLOW_NORMALIZATION = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
IMAGENET_NORMALIZATION = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF_RANGE_NORMALIZATION = Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


# Maps images to the feature maps of the first stages of a backbone.
Trunk = Callable[[Tensor], tuple[Tensor, ...]]


class Backbone(nn.Module):
    """A CNN feature extractor: ``forward`` maps images [B,3,H,W] to one feature map for each of its strides.

    Attributes:
        name: registry name, for cards and messages.
        strides: input pixels for one feature cell, ascending, for example (4, 8, 16, 32).
        channels: channels of each feature map.
        trim: cells that each feature map lacks, in either direction, of input size / stride: 0 everywhere, except in
            networks whose first convolutions are not padded (LeNet-5, AlexNet).
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
        trim: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        trim = (0,) * len(stages) if trim is None else trim
        if not len(stages) == len(strides) == len(channels) == len(trim):
            raise InvalidInputError(
                f"a backbone needs one stride, channel count and trim for each stage, got {len(stages)} stages, "
                f"strides {strides}, channels {channels}, trim {trim}"
            )
        self.name = name
        self.stages = nn.ModuleList(stages)
        self.strides = strides
        self.channels = channels
        self.trim = trim
        self.normalization = normalization
        self._frozen_stages = 0
        self._trunk: Trunk | None = None

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:  # noqa: N803 - shape suffix
        """Return features [B, channels[i], H / strides[i] - trim[i], W / strides[i] - trim[i]]; H and W must be
        multiples of the last stride.

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
    """A backbone with its classification head: images [B,3,H,W] to logits [B,K].

    Attributes:
        backbone: the features; the head takes the last of them.
        head: a flat chain of Conv2d, BatchNorm2d, activations, one AdaptiveAvgPool2d, one Flatten, then Linear,
            activations and Dropout, the last module being the Linear of K outputs. So plain a form can be turned into
            convolutions. Every head has a Dropout, though its rate may be 0: the names of the weights then do not
            depend on the rate.
        num_classes: K.
        native_hw: input size at which the head's pooling grid is the feature map itself (or, after global pooling,
            the size that the weights were made for), a multiple of the last stride. Other multiples are allowed.
    """

    def __init__(
        self, backbone: Backbone, head: nn.Sequential, *, num_classes: int, native_hw: tuple[int, int]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes
        self.native_hw = native_hw

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return class logits [B, K]."""
        logits: Tensor = self.head(self.backbone(images_BCHW)[-1])
        return logits

    def adapt(self, num_classes: int, dropout: float | None) -> None:
        """Give the head ``num_classes`` outputs and, unless None, the dropout rate; other weights stay as they are.

        Only a changed number of classes replaces the last layer, with fresh weights.
        """
        last = self.head[-1]
        assert isinstance(last, nn.Linear), "a head ends in its Linear"
        if num_classes != last.out_features:
            self.head[-1] = nn.Linear(last.in_features, num_classes)
            self.num_classes = num_classes
        if dropout is not None:
            for module in self.head:
                if isinstance(module, nn.Dropout):
                    module.p = dropout


def chain(*modules: nn.Module) -> nn.Sequential:
    """Return one flat Sequential of the modules, those inside nested Sequentials included."""
    return nn.Sequential(*_leaves(modules))


def _leaves(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in modules:
        if isinstance(module, nn.Sequential):
            yield from _leaves(module)
        else:
            yield module
