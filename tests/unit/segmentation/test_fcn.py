"""FCN on every backbone: sizes, zero skips, bilinear upsampling, gradients."""

import pytest
import torch
from torch.nn import functional as F

from vision.backbones.registry import CLASSIFIERS, build_classifier
from vision.errors import ConfigError, InvalidInputError
from vision.segmentation.fcn import FCN
from vision.segmentation.upsampling import Upsampling, bilinear_kernel

CONVOLUTIONAL = [name for name in CLASSIFIERS if name not in ("mlp", "perceptron")]


def backbone(name="tf_efficientnet_lite0"):
    return build_classifier(name).backbone


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_backbone_gives_logits_of_the_inputs_size(name):
    features = backbone(name)
    for stride in features.strides[-3:]:
        network = FCN(features, 5, stride=stride).eval()
        side = network.multiple
        with torch.inference_mode():
            images = torch.randn(1, 3, 2 * side, 3 * side)
            assert network(images).shape == (1, 5, 2 * side, 3 * side)
            assert network.coarse(images).shape == (1, 5, 2 * side // stride, 3 * side // stride)


def test_skips_that_are_zero_change_nothing():
    torch.manual_seed(0)
    features = backbone()
    coarse = FCN(features, 4, stride=32).eval()
    fine = FCN(features, 4, stride=8).eval()
    fine.score["32"].load_state_dict(coarse.score["32"].state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        steps = fine.fuse[1](fine.fuse[0](coarse.coarse(images)))
        torch.testing.assert_close(fine.coarse(images), steps)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 32])
def test_upsampling_is_bilinear_but_for_the_border(factor):
    maps = torch.randn(2, 3, 5, 7)
    enlarged = Upsampling(3, factor)(maps)
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
    assert enlarged.shape == expected.shape
    border = factor
    inner = (slice(None), slice(None), slice(border, -border), slice(border, -border))
    torch.testing.assert_close(enlarged[inner], expected[inner], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_the_largest_class_is_the_same_at_the_border_too(factor):
    torch.manual_seed(1)
    maps = torch.randn(1, 4, 6, 6)
    enlarged = Upsampling(4, factor)(maps).argmax(dim=1)
    expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False).argmax(dim=1)
    # Equal logits within rounding may fall either way.
    assert (enlarged == expected).float().mean() > 0.999


def test_the_kernel_interpolates():
    assert bilinear_kernel(3).shape == (5, 5)
    assert bilinear_kernel(4).shape == (8, 8)
    # Every output pixel inside gets weights that sum to one.
    flat = Upsampling(1, 4)(torch.ones(1, 1, 6, 6))
    torch.testing.assert_close(flat[:, :, 4:-4, 4:-4], torch.ones(1, 1, 16, 16))


def test_learnable_upsampling_is_trained_and_saved():
    network = FCN(backbone(), 3, stride=8, learnable=True)
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    assert network.enlarge.weight.grad is not None
    assert {"enlarge.weight", "fuse.0.weight", "fuse.1.weight"} <= network.state_dict().keys()
    fixed = FCN(backbone(), 3, stride=8)
    assert not any(key.startswith(("enlarge", "fuse")) for key in fixed.state_dict())


def test_a_learnable_network_starts_as_the_fixed_one():
    torch.manual_seed(0)
    features = backbone()
    fixed, learnable = FCN(features, 3).eval(), FCN(features, 3, learnable=True).eval()
    learnable.score.load_state_dict(fixed.score.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(learnable(images), fixed(images))


def test_width_puts_a_convolution_before_the_coarsest_scores():
    network = FCN(backbone(), 3, stride=16, width=24).eval()
    assert network.score["32"].in_channels == 24
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 3, 64, 64)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"\[4, 8, 16, 32\], got 64"):
        FCN(backbone(), 3, stride=64)
    with pytest.raises(ConfigError, match="at least two classes"):
        FCN(backbone(), 1)
    with pytest.raises(ConfigError, match="must be >= 1"):
        bilinear_kernel(0)


@pytest.mark.parametrize("size", [(33, 64), (101, 77), (1, 1), (64, 32)])
@pytest.mark.parametrize("stride", [8, 32])
def test_odd_sizes_get_a_map_of_their_size(size, stride):
    torch.manual_seed(0)
    network = FCN(backbone(), 3, stride=stride).eval()
    images = torch.randn(1, 3, *size)
    height, width = (-(-side // 32) * 32 for side in size)
    padded = F.pad(images, (0, width - size[1], 0, height - size[0]))
    with torch.inference_mode():
        found = network(images)
        assert found.shape == (1, 3, *size)
        torch.testing.assert_close(found, network(padded)[:, :, : size[0], : size[1]])


def test_maps_of_odd_sizes_are_refused():
    with pytest.raises(InvalidInputError, match=r"multiples of 32, got 33 x 64; pad the pictures"):
        FCN(backbone(), 3).coarse(torch.zeros(1, 3, 33, 64))
