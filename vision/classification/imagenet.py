"""The published classifiers of 1000 ImageNet classes, by the name of their backbone."""

from __future__ import annotations

import torchvision

from vision import remote
from vision.backbones.pretrained import pretrained_path
from vision.backbones.registry import CLASSIFIERS, build_classifier
from vision.classification.classifier import LoadedNetwork
from vision.classification.input import InputSpec
from vision.classification.readout import Readout
from vision.store import file_sha256

# Share of the shorter side that the publishers' own evaluation cuts out: 224 pixels of 256.
CROP_SHARE = 224 / 256

PUBLISHED = tuple(name for name, recipe in CLASSIFIERS.items() if recipe.published)


def load_imagenet_network(name: str) -> LoadedNetwork:
    """Return the network of that backbone with its ImageNet weights, which must be on this machine.

    Raises:
        ModelError: the weights are not here, with the command that gets them.
    """
    path = pretrained_path(name, CLASSIFIERS[name])
    network = build_classifier(name, pretrained=path)
    spec = InputSpec(
        size_hw=network.native_hw,
        resize="crop",
        crop_share=_crop_share(name),
        normalization=network.backbone.normalization,
    )
    readout = Readout(task="multiclass", class_names=imagenet_names())
    return LoadedNetwork(network.eval(), spec, readout, file_sha256(path))


def imagenet_names() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes in the order of the outputs; two of them occur twice."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _crop_share(name: str) -> float:
    if name not in remote.TORCHVISION:
        return CROP_SHARE
    _, builder, weights = remote.TORCHVISION[name]
    settings = torchvision.models.get_model_weights(builder)[weights].transforms.keywords
    return float(settings["crop_size"] / settings.get("resize_size", 256))
