"""What every network of the registry promises: sizes, channels, a head of plain layers; and the words of refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vision.backbones.interface import Classifier
from vision.backbones.registry import BACKBONES, CLASSIFIERS, build_backbone, build_classifier
from vision.errors import InvalidInputError, ModelError, ModelNotFoundError
from vision.remote import NAMES as PUBLISHED

HEAD_LAYERS = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Tanh,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Linear,
    nn.Dropout,
)
OnMeta = Callable[[str], Classifier]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_feature_maps_have_the_strides_channels_and_trim_that_are_stated(name: str, on_meta: OnMeta) -> None:
    classifier = on_meta(name)
    backbone, last = classifier.backbone, classifier.backbone.strides[-1]
    height, width = 3 * max(last, 16), 4 * max(last, 16)
    assert backbone.name == name
    features = backbone(torch.zeros(2, 3, height, width, device="meta"))
    assert [tuple(feature.shape) for feature in features] == [
        (2, channels, height // stride - trim, width // stride - trim)
        for stride, channels, trim in zip(backbone.strides, backbone.channels, backbone.trim, strict=True)
    ]
    assert classifier.head(features[-1]).shape == (2, 7)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_has_the_pyramid_of_a_detector(name: str, on_meta: OnMeta) -> None:
    backbone = on_meta(name).backbone
    assert backbone.strides == (4, 8, 16, 32)
    assert backbone.trim == (0, 0, 0, 0)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_head_is_a_flat_chain_of_plain_layers(name: str, on_meta: OnMeta) -> None:
    head = on_meta(name).head
    kinds = [type(layer) for layer in head]
    assert set(kinds) <= set(HEAD_LAYERS)
    assert kinds[-1] is nn.Linear
    assert kinds.count(nn.AdaptiveAvgPool2d) == kinds.count(nn.Flatten) == 1
    assert nn.Dropout in kinds


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_at_the_native_size_the_pooling_grid_is_the_feature_map(name: str, on_meta: OnMeta) -> None:
    classifier = on_meta(name)
    pool = next(layer for layer in classifier.head if isinstance(layer, nn.AdaptiveAvgPool2d))
    height, width = classifier.native_hw
    stride, trim = classifier.backbone.strides[-1], classifier.backbone.trim[-1]
    assert height % stride == width % stride == 0
    grid = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size, pool.output_size)
    assert grid in ((1, 1), (height // stride - trim, width // stride - trim))


def test_published_parameter_counts() -> None:
    published = {"lenet5": 61_706, "vgg16": 138_357_544, "googlenet": 6_624_904, "mobilenet_v3_small": 2_542_856}
    for name, count in published.items():
        with torch.device("meta"):
            classifier = build_classifier(name, 10 if name == "lenet5" else 1000)
        assert sum(parameter.numel() for parameter in classifier.parameters()) == count, name


def test_every_published_network_has_a_name_to_pull() -> None:
    assert {name for name, recipe in CLASSIFIERS.items() if recipe.published} <= set(PUBLISHED)


# --- small networks ---


@pytest.mark.parametrize("name", ["perceptron", "mlp", "lenet5"])
def test_grey_networks_see_luma_alone(name: str) -> None:
    torch.manual_seed(0)
    classifier = build_classifier(name, 10).eval()
    grey = torch.randn(2, 1, 32, 32)
    shift = torch.randn(2, 1, 32, 32)
    # Red up and green down by amounts of the same luma.
    coloured = torch.cat([grey + shift / 0.299, grey - shift / 0.587, grey], dim=1)
    with torch.inference_mode():
        expected = classifier(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(classifier(coloured), expected, rtol=0, atol=1e-5)
    assert expected.std() > 1e-3


def test_lenet5_in_colour_tells_what_luma_cannot() -> None:
    torch.manual_seed(0)
    classifier = build_classifier("lenet5_rgb", 10).eval()
    red, green = torch.zeros(2, 3, 32, 32)
    red[0], green[1] = 0.587, 0.299
    with torch.inference_mode():
        logits = classifier(torch.stack([red, green]))
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_the_perceptron_is_linear_in_the_pixels() -> None:
    classifier = build_classifier("perceptron", 10).eval()
    a, b = torch.randn(2, 1, 3, 32, 32)
    with torch.inference_mode():
        zero = classifier(torch.zeros_like(a))
        torch.testing.assert_close(classifier(a + b) - zero, classifier(a) + classifier(b) - 2 * zero)


def test_small_networks_have_nothing_published() -> None:
    with pytest.raises(ModelError, match="mlp has no published weights"):
        build_classifier("mlp", pretrained=True)


# --- dropout ---


@pytest.mark.parametrize(("name", "own"), [("mobilenet_v3_small", [0.2]), ("resnet18", [0.0]), ("perceptron", [0.0])])
def test_dropout_changes_rates_and_no_names(name: str, own: list[float]) -> None:
    def rates(classifier: Classifier) -> list[float]:
        return [layer.p for layer in classifier.head if isinstance(layer, nn.Dropout)]

    with torch.device("meta"):
        plain, changed = build_classifier(name, 3), build_classifier(name, 3, dropout=0.4)
    assert rates(plain) == own
    assert rates(changed) == [0.4] * len(own)
    assert plain.state_dict().keys() == changed.state_dict().keys()


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    classifier = build_classifier("mlp", 10, dropout=0.5)
    images = torch.randn(1, 3, 32, 32)
    assert not torch.equal(classifier(images), classifier(images))
    classifier.eval()
    assert torch.equal(classifier(images), classifier(images))


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_a_rate_out_of_range_is_refused(dropout: float) -> None:
    with pytest.raises(InvalidInputError, match=r"dropout must be in \[0, 1\)"):
        build_classifier("mlp", 10, dropout=dropout)


def test_a_head_without_outputs_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="num_classes must be >= 1"):
        build_classifier("mlp", 0)


# --- names ---


@pytest.mark.parametrize("name", ["perceptron", "mlp", "lenet5", "lenet5_rgb", "alexnet"])
def test_a_classifier_without_a_pyramid_is_no_backbone(name: str) -> None:
    with pytest.raises(
        ModelError, match=rf"{name} has none that fit; choose one of tf_efficientnet_lite0, .*classifier"
    ):
        build_backbone(name)


def test_backbone_is_that_of_the_classifier() -> None:
    assert build_backbone("resnet18").state_dict().keys() == build_classifier("resnet18").backbone.state_dict().keys()


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(ModelNotFoundError, match=r"unknown backbone 'resnet81'.*did you mean 'resnet18'.*resnet50"):
        build_backbone("resnet81")
