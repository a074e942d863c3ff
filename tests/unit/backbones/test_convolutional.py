"""A classifier and its convolutional form: the same logits at the native size, one cell for each window beyond it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from vision.backbones.convolutional import convert_classifier
from vision.backbones.interface import IMAGENET_NORMALIZATION, Backbone, Classifier, chain
from vision.backbones.registry import CLASSIFIERS, build_classifier
from vision.errors import InvalidInputError

NETWORKS = ["tf_efficientnet_lite0", "mobilenet_v3_small", "resnet18", "googlenet", "lenet5", "lenet5_rgb", "mlp"]


def warmed_up(classifier: Classifier) -> Classifier:
    """Give batch norms statistics of their own, so that the logits differ from picture to picture."""
    height, width = classifier.native_hw
    with torch.no_grad():
        classifier.train()(torch.randn(4, 3, min(height, 64), min(width, 64)))
    return classifier.eval()


def spread(logits: torch.Tensor) -> float:
    return float(logits.std())


def assert_identical(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert the same logits: a dense layer and its convolution add the same products in another order, so float32
    leaves a difference in the last digits of the largest."""
    assert found.shape == expected.shape
    assert spread(expected) > 1e-4
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_at_the_native_size_are_the_classifiers_own(name: str) -> None:
    torch.manual_seed(0)
    classifier = warmed_up(build_classifier(name, 7))
    # Global pooling makes any size native; a small one spares time.
    native_hw = min(classifier.native_hw, (96, 64))
    converted = convert_classifier(classifier, native_hw=native_hw)
    images = torch.randn(2, 3, *native_hw)
    with torch.inference_mode():
        expected = classifier(images)
        found = converted(images)
    assert found.shape == (2, 7, 1, 1)
    assert_identical(found[:, :, 0, 0], expected)


def narrow(name: str, grid: int, channels: int) -> Classifier:
    """Return a classifier with the head of AlexNet or VGG in small: pooling to a grid, flattening, dense layers."""
    backbone = Backbone(
        name,
        [nn.Sequential(nn.Conv2d(3, channels, 5, stride=4, padding=2), nn.ReLU())],
        strides=(4,),
        channels=(channels,),
        normalization=IMAGENET_NORMALIZATION,
    )
    head = chain(
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(1),
        nn.Dropout(0.5),
        nn.Linear(channels * grid**2, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(16, 7, bias=False),
    )
    return Classifier(backbone, head, num_classes=7, native_hw=(48, 48))


# 12 cells a side at the native size: the pooling is the map itself, or averages 2 x 2, 4 x 4 and all cells.
@pytest.mark.parametrize("grid", [12, 6, 3, 1])
def test_a_pooling_grid_becomes_an_average_and_a_dilated_convolution(grid: int) -> None:
    torch.manual_seed(0)
    classifier = warmed_up(narrow("narrow", grid, 5))
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        found = convert_classifier(classifier)(images)
        torch.testing.assert_close(found[:, :, 0, 0], classifier(images), rtol=0, atol=1e-5)


def test_a_larger_picture_gives_the_logits_of_each_window() -> None:
    """Without padding in front, cell (i, j) is exactly the classifier on the window that begins at stride * (i, j)."""
    torch.manual_seed(0)
    classifier = build_classifier("lenet5_rgb", 4).eval()
    picture = torch.randn(1, 3, 48, 40)
    height, width = classifier.native_hw
    with torch.inference_mode():
        logits = convert_classifier(classifier)(picture)
        assert logits.shape == (1, 4, 5, 3)
        for row in range(5):
            for column in range(3):
                y, x = 4 * row, 4 * column
                window = picture[:, :, y : y + height, x : x + width]
                torch.testing.assert_close(logits[:, :, row, column], classifier(window), rtol=0, atol=1e-5)


def test_the_classifier_stays_as_it_is() -> None:
    classifier = build_classifier("lenet5", 4)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    converted = convert_classifier(classifier)
    assert classifier.training
    assert converted.training
    with torch.no_grad():
        for parameter in converted.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_frozen_layers_stay_frozen() -> None:
    classifier = narrow("narrow", 6, 3)
    classifier.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in convert_classifier(classifier).parameters())


def test_a_grid_that_does_not_divide_the_map_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"got 12 x 12 cells pooled to 5 x 5; give another native_hw"):
        convert_classifier(narrow("narrow", 5, 3))


def test_a_layer_without_convolutional_form_is_named() -> None:
    classifier = narrow("narrow", 6, 3)
    classifier.head[4] = nn.LayerNorm(16)
    with pytest.raises(InvalidInputError, match="found LayerNorm"):
        convert_classifier(classifier)


@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn"])
def test_the_heads_of_alexnet_and_vgg(name: str) -> None:
    torch.manual_seed(0)
    classifier = warmed_up(with_narrow_head(name))
    images = torch.randn(1, 3, *classifier.native_hw)
    with torch.inference_mode():
        expected = classifier(images)
        found = convert_classifier(classifier)(images)
    assert_identical(found[:, :, 0, 0], expected)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "tf_efficientnet_lite0", "lenet5"])
def test_each_cell_of_a_coarse_map_is_the_head_on_its_own_part_of_the_features(name: str) -> None:
    """A picture larger by (a, b) strides gives a + 1 by b + 1 cells; cell (i, j) begins i and j strides further."""
    torch.manual_seed(0)
    small = build_classifier(name, 7) if name not in ("alexnet", "vgg11") else with_narrow_head(name)
    classifier = warmed_up(small)
    # Heads that flatten a grid are made for one size, others are native at any.
    grows = name.startswith(("resnet", "tf_"))
    native_hw = (96, 64) if grows else classifier.native_hw
    converted = convert_classifier(classifier, native_hw=native_hw)
    stride = classifier.backbone.strides[-1]
    picture = torch.randn(1, 3, native_hw[0] + 2 * stride, native_hw[1] + stride)
    with torch.inference_mode():
        features = classifier.backbone(picture)[-1]
        rows, columns = (side // stride - classifier.backbone.trim[-1] for side in native_hw)
        cells = [
            classifier.head(features[:, :, row : row + rows, column : column + columns])
            for row in range(3)
            for column in range(2)
        ]
        found = converted(picture)
    assert_identical(found, torch.stack(cells, dim=-1).reshape(1, -1, 3, 2))
    assert spread(found.mean(dim=(0, 1))) > 0


def test_dense_weights_are_not_copied_twice() -> None:
    classifier = narrow("narrow", 6, 3)
    converted = convert_classifier(classifier)
    dense, convolution = classifier.head[3], next(m for m in converted.head if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous()
    assert convolution.weight.data_ptr() != dense.weight.data_ptr()
    assert convolution.weight.untyped_storage().nbytes() == dense.weight.untyped_storage().nbytes()
    assert (convolution.weight.device.type, convolution.weight.is_leaf) == ("cpu", True)


def with_narrow_head(name: str) -> Classifier:
    """Return a classifier as it is cut, with few units in its dense layers, which else hold nine tenths of it."""
    with torch.device("meta"):
        network = getattr(torchvision.models, name)(weights=None)
        for index in (index for index, layer in enumerate(network.classifier) if isinstance(layer, nn.Linear)):
            inputs = network.classifier[index].in_features
            network.classifier[index] = nn.Linear(inputs if inputs > 5000 else 12, 12)
    network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return CLASSIFIERS[name].cut(network)
