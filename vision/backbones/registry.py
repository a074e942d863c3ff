"""Backbones by name: one visible line each, so that go-to-definition works."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vision.backbones.classic import build_resnet
from vision.backbones.interface import Backbone, Classifier
from vision.backbones.timm import LITE0, build_lite0
from vision.errors import ModelNotFoundError

CLASSIFIERS: dict[str, Callable[..., Classifier]] = {
    LITE0: build_lite0,
    "resnet18": partial(build_resnet, "resnet18"),
    "resnet50": partial(build_resnet, "resnet50"),
}


def build_classifier(name: str, num_classes: int = 1000, *, pretrained: bool | Path = False) -> Classifier:
    """Return the named classifier; raises ModelNotFoundError with the known names."""
    if name not in CLASSIFIERS:
        raise ModelNotFoundError(name, CLASSIFIERS, kind="backbone")
    return CLASSIFIERS[name](num_classes, pretrained=pretrained)


def build_backbone(name: str, *, pretrained: bool | Path = False) -> Backbone:
    """Return the feature extractor of the named classifier."""
    return build_classifier(name, pretrained=pretrained).backbone
