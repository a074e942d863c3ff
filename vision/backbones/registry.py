"""Classifiers and backbones by name: one visible line each, so that go-to-definition works."""

from __future__ import annotations

from pathlib import Path

from vision.backbones.classic import alexnet, googlenet, resnet, vgg
from vision.backbones.interface import Backbone, Classifier
from vision.backbones.lenet import lenet5, mlp, perceptron
from vision.backbones.mobilenet import mobilenet
from vision.backbones.pretrained import pretrained_path
from vision.backbones.recipe import Recipe
from vision.backbones.timm import lite
from vision.errors import InvalidInputError, ModelError, ModelNotFoundError

# Networks with a feature pyramid: strides 4, 8, 16, 32 and maps of exactly size / stride. They serve every task.
BACKBONES: dict[str, Recipe] = {
    "tf_efficientnet_lite0": lite(0),
    "tf_efficientnet_lite1": lite(1),
    "tf_efficientnet_lite2": lite(2),
    "mobilenet_v2": mobilenet("mobilenet_v2"),
    "mobilenet_v3_small": mobilenet("mobilenet_v3_small"),
    "mobilenet_v3_large": mobilenet("mobilenet_v3_large"),
    "resnet18": resnet("resnet18"),
    "resnet34": resnet("resnet34"),
    "resnet50": resnet("resnet50"),
    "resnet101": resnet("resnet101"),
    "googlenet": googlenet(),
    "vgg11": vgg("vgg11"),
    "vgg11_bn": vgg("vgg11_bn"),
    "vgg16": vgg("vgg16"),
    "vgg16_bn": vgg("vgg16_bn"),
}

# All networks with a head; those after the first line classify, slide over a picture and segment, and no more.
CLASSIFIERS: dict[str, Recipe] = {
    **BACKBONES,
    "alexnet": alexnet(),
    "lenet5": lenet5("lenet5", colour=False),
    "lenet5_rgb": lenet5("lenet5_rgb", colour=True),
    "mlp": mlp(),
    "perceptron": perceptron(),
}


def build_classifier(
    name: str, num_classes: int = 1000, *, pretrained: bool | Path = False, dropout: float | None = None
) -> Classifier:
    """Return the named classifier with a head of ``num_classes`` outputs, in training mode.

    Args:
        name: key of ``CLASSIFIERS``.
        num_classes: outputs; another number than the weights have gives a fresh last layer.
        pretrained: True takes the ImageNet weights of an installed package or of the cache (``stride32 models pull``),
            a path that file, False fresh weights.
        dropout: rate in [0, 1) of the head's dropout layers; None keeps the network's own.

    Raises:
        ModelNotFoundError: no classifier has that name; lists the known ones.
        ModelError: pretrained weights are not here, with the command that gets them.
        WeightsError: the file does not fit the network, with both sides.
        InvalidInputError: a number out of range.
    """
    if name not in CLASSIFIERS:
        raise ModelNotFoundError(name, CLASSIFIERS, kind="backbone")
    if num_classes < 1:
        raise InvalidInputError(f"num_classes must be >= 1, got {num_classes}; count the outputs of the head")
    if dropout is not None and not 0 <= dropout < 1:
        raise InvalidInputError(f"dropout must be in [0, 1), got {dropout}; 0 switches it off")
    recipe = CLASSIFIERS[name]
    network = recipe.make()
    if pretrained is not False:
        recipe.load(network, pretrained_path(name, recipe) if pretrained is True else Path(pretrained))
    classifier = recipe.cut(network)
    classifier.adapt(num_classes, dropout)
    return classifier


def build_backbone(name: str, *, pretrained: bool | Path = False) -> Backbone:
    """Return the feature extractor of the named classifier, for networks that need its pyramid.

    Raises:
        ModelError: the classifier has no feature pyramid; says which have. Otherwise as ``build_classifier``.
    """
    if name in CLASSIFIERS and name not in BACKBONES:
        raise ModelError(
            f"a detector's backbone must have feature maps of strides 4, 8, 16 and 32, {name} has none that fit; "
            f"choose one of {', '.join(BACKBONES)} ({name} serves as a classifier: stride32 train classifier)",
            expected=f"one of {', '.join(BACKBONES)}",
            actual=name,
        )
    return build_classifier(name, pretrained=pretrained).backbone
