"""MobileNetV2 and MobileNetV3 from torchvision, cut into stages (Sandler et al. 2018, Howard et al. 2019).

A stage ends after the last block of its stride. The wide 1x1 convolution that torchvision counts among the features
belongs to the head: as in EfficientNet-Lite, it makes the classifier's input and is of no use to a detector.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torchvision
from torch import nn

from vision.backbones.interface import IMAGENET_NORMALIZATION, Backbone, Classifier, chain
from vision.backbones.recipe import Recipe

# Where the stages end among torchvision's blocks, the last number being that of the head's convolution.
CUTS = {
    "mobilenet_v2": (4, 7, 14, 18),
    "mobilenet_v3_small": (2, 4, 9, 12),
    "mobilenet_v3_large": (4, 7, 13, 16),
}
CHANNELS = {
    "mobilenet_v2": (24, 32, 96, 320),
    "mobilenet_v3_small": (16, 24, 48, 96),
    "mobilenet_v3_large": (24, 40, 112, 160),
}


def mobilenet(name: str) -> Recipe:
    """Return the recipe of "mobilenet_v2", "mobilenet_v3_small" or "mobilenet_v3_large"."""
    return Recipe(make=partial(_make, name), cut=partial(_cut, name))


def _make(name: str) -> nn.Module:
    """Return torchvision's network of that name with fresh weights."""
    network: nn.Module = getattr(torchvision.models, name)(weights=None)
    return network


def _cut(name: str, network: Any) -> Classifier:
    blocks = network.features
    starts = (0, *CUTS[name])
    backbone = Backbone(
        name,
        [blocks[start:end] for start, end in zip(starts, CUTS[name], strict=False)],
        strides=(4, 8, 16, 32),
        channels=CHANNELS[name],
        normalization=IMAGENET_NORMALIZATION,
    )
    head = chain(blocks[CUTS[name][-1] :], nn.AdaptiveAvgPool2d(1), nn.Flatten(1), network.classifier)
    return Classifier(backbone, head, num_classes=1000, native_hw=(224, 224))
