"""AlexNet, VGG, GoogLeNet and ResNet from torchvision, cut into stages."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torchvision
from torch import nn

from vision.backbones.checkpoint import load_by_name
from vision.backbones.interface import HALF_RANGE_NORMALIZATION, IMAGENET_NORMALIZATION, Backbone, Classifier, chain
from vision.backbones.recipe import Recipe

IMAGENET_HW = (224, 224)


def alexnet() -> Recipe:
    """Return the recipe of AlexNet in the one-column form of Krizhevsky 2014 ("One weird trick").

    Its first convolution and its poolings are not padded: each feature map has one cell less than size / stride.
    """
    return Recipe(make=partial(_make, "alexnet"), cut=_cut_alexnet)


def _cut_alexnet(network: Any) -> Classifier:
    layers = network.features
    backbone = Backbone(
        "alexnet",
        [layers[:2], layers[2:3], layers[3:6], layers[6:]],
        strides=(4, 8, 16, 32),
        channels=(64, 64, 192, 256),
        trim=(1, 1, 1, 1),
        normalization=IMAGENET_NORMALIZATION,
    )
    head = chain(network.avgpool, nn.Flatten(1), network.classifier)
    return Classifier(backbone, head, num_classes=1000, native_hw=IMAGENET_HW)


def vgg(name: str) -> Recipe:
    """Return the recipe of a VGG (Simonyan and Zisserman 2015), "vgg11", "vgg16" or with batch norm, "vgg16_bn".

    A feature map is what comes out of a pooling, as the FCN takes it (Long 2015): pool2 to pool5.
    """
    return Recipe(make=partial(_make, name), cut=partial(_cut_vgg, name))


def _cut_vgg(name: str, network: Any) -> Classifier:
    layers = network.features
    pools = [index for index, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    cuts = [0, *(index + 1 for index in pools[1:])]
    backbone = Backbone(
        name,
        [layers[start:end] for start, end in pairwise(cuts)],
        strides=(4, 8, 16, 32),
        channels=(128, 256, 512, 512),
        normalization=IMAGENET_NORMALIZATION,
    )
    head = chain(network.avgpool, nn.Flatten(1), network.classifier)
    return Classifier(backbone, head, num_classes=1000, native_hw=IMAGENET_HW)


def googlenet() -> Recipe:
    """Return the recipe of GoogLeNet with batch norm (Szegedy 2015), without the auxiliary classifiers.

    The published weights expect (x - 127.5) / 127.5, which torchvision computes from its usual input; ours is so at
    once. The auxiliary classifiers in the published file serve training from scratch only and are left out.
    """
    # torchvision's own truncated-normal start takes long and is a matter of networks without batch norm.
    make = partial(_make, "googlenet", aux_logits=False, init_weights=False)
    return Recipe(make=make, cut=_cut_googlenet, load=partial(load_by_name, ignored=("aux1.", "aux2.")))


def _cut_googlenet(network: Any) -> Classifier:
    stages = [
        nn.Sequential(network.conv1, network.maxpool1, network.conv2, network.conv3),
        nn.Sequential(network.maxpool2, network.inception3a, network.inception3b),
        nn.Sequential(
            network.maxpool3,
            network.inception4a,
            network.inception4b,
            network.inception4c,
            network.inception4d,
            network.inception4e,
        ),
        nn.Sequential(network.maxpool4, network.inception5a, network.inception5b),
    ]
    backbone = Backbone(
        "googlenet",
        stages,
        strides=(4, 8, 16, 32),
        channels=(192, 480, 832, 1024),
        normalization=HALF_RANGE_NORMALIZATION,
    )
    head = chain(network.avgpool, nn.Flatten(1), network.dropout, network.fc)
    return Classifier(backbone, head, num_classes=1000, native_hw=IMAGENET_HW)


def resnet(name: str) -> Recipe:
    """Return the recipe of a ResNet (He et al. 2016): "resnet18", "resnet34", "resnet50" or "resnet101".

    torchvision's form, whose bottlenecks have the stride in the 3x3 convolution.
    """
    return Recipe(make=partial(_make, name), cut=partial(_cut_resnet, name))


def _cut_resnet(name: str, network: Any) -> Classifier:
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)
    expansion = network.fc.in_features // 512
    backbone = Backbone(
        name,
        [stem, network.layer2, network.layer3, network.layer4],
        strides=(4, 8, 16, 32),
        channels=(64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion),
        normalization=IMAGENET_NORMALIZATION,
    )
    head = chain(network.avgpool, nn.Flatten(1), nn.Dropout(0.0), network.fc)
    return Classifier(backbone, head, num_classes=1000, native_hw=IMAGENET_HW)


def _make(name: str, **arguments: Any) -> nn.Module:
    """Return torchvision's network of that name with fresh weights."""
    network: nn.Module = getattr(torchvision.models, name)(weights=None, **arguments)
    return network
