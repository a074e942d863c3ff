"""ResNet from torchvision, cut into stages (He et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from vision.backbones.checkpoint import read_checkpoint
from vision.backbones.interface import IMAGENET_NORMALIZATION, Backbone, Classifier, pool_flatten
from vision.errors import ModelError, WeightsError

RESNET_CHANNELS = {"resnet18": (64, 128, 256, 512), "resnet50": (256, 512, 1024, 2048)}


def build_resnet(name: str, num_classes: int, *, pretrained: bool | Path = False) -> Classifier:
    """Return ResNet-18 or ResNet-50 as a classifier with strides 4, 8, 16, 32.

    Args:
        name: "resnet18" or "resnet50".
        num_classes: outputs of the head; the pretrained head is kept only for 1000.
        pretrained: a path to torchvision's checkpoint (.pth or .safetensors). True is refused: no package ships these
            weights.
    """
    network: Any = getattr(torchvision.models, name)(weights=None)
    if pretrained is True:
        raise ModelError(
            f"ImageNet weights of {name} must be given as a file, got none: no package ships them; "
            "pass the path of torchvision's checkpoint"
        )
    if pretrained:
        _load_checkpoint(network, Path(pretrained))
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    backbone = Backbone(
        name,
        [stem, network.layer2, network.layer3, network.layer4],
        strides=(4, 8, 16, 32),
        channels=RESNET_CHANNELS[name],
        normalization=IMAGENET_NORMALIZATION,
    )
    fits = num_classes == network.fc.out_features
    linear = network.fc if fits else nn.Linear(network.fc.in_features, num_classes)
    return Classifier(backbone, nn.Sequential(pool_flatten(), linear), num_classes=num_classes)


def _load_checkpoint(network: nn.Module, path: Path) -> None:
    """Load a state dict by name from a .safetensors or a tensors-only .pth file."""
    try:
        network.load_state_dict(read_checkpoint(path))
    except RuntimeError as exc:
        raise WeightsError(
            f"{path.name} does not fit {type(network).__name__}: {str(exc).splitlines()[-1].strip()} "
            "Pass torchvision's own checkpoint",
            path=path,
        ) from exc
