"""Laws of the one interface, on one network of each family that is cheap to run: features, freezing, trunks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from vision.backbones.interface import IMAGENET_NORMALIZATION, Backbone, Classifier
from vision.backbones.registry import build_classifier
from vision.errors import InvalidInputError
from vision.training.frozen_trunk import FrozenTrunk

# vgg11 is a family of its own too, but half a gigabyte; test_checkpoints.py runs it with a small head.
NETWORKS = ["tf_efficientnet_lite0", "mobilenet_v3_small", "resnet18", "googlenet"]


@pytest.fixture(scope="module", params=NETWORKS)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    """Return a classifier of 7 classes; tests leave its freezing and mode as they like."""
    torch.manual_seed(0)
    return build_classifier(request.param, 7)


@pytest.fixture
def backbone(classifier: Classifier) -> Backbone:
    classifier.backbone.freeze(0)
    return classifier.backbone.eval()


def statistics_of(module: nn.Module) -> list[torch.Tensor]:
    return [buffer.clone() for name, buffer in module.named_buffers() if "running" in name]


@pytest.mark.parametrize("size_hw", [(64, 96), (128, 64)])
def test_each_feature_map_has_its_stride_and_channels(backbone: Backbone, size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    with torch.inference_mode():
        features = backbone.eval()(torch.zeros(1, 3, height, width))
    assert [tuple(feature.shape) for feature in features] == [
        (1, channels, height // stride, width // stride)
        for stride, channels in zip(backbone.strides, backbone.channels, strict=True)
    ]


def test_select_and_channels_go_by_stride(backbone: Backbone) -> None:
    features = tuple(torch.full((1,), float(stride)) for stride in backbone.strides)
    assert [float(feature) for feature in backbone.select(features, (32, 8))] == [32, 8]
    assert backbone.channels_at(16) == backbone.channels[2]
    with pytest.raises(InvalidInputError, match=r"strides \(4, 8, 16, 32\), got 12"):
        backbone.channels_at(12)


def test_classifier_gives_logits_of_its_classes(classifier: Classifier) -> None:
    with torch.inference_mode():
        assert classifier.eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 7)


def test_batch_of_n_equals_n_singles(backbone: Backbone) -> None:
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = backbone(images)
        for row in range(3):
            for batched, single in zip(together, backbone(images[row : row + 1]), strict=True):
                limit = 1e-4 * float(single.abs().max())  # sums of another order
                torch.testing.assert_close(batched[row], single[0], rtol=0, atol=limit)


@pytest.mark.parametrize(("stride", "frozen"), [(0, 0), (4, 1), (8, 2), (31, 3), (32, 4)])
def test_freeze_stops_whole_stages(backbone: Backbone, stride: int, frozen: int) -> None:
    backbone.freeze(stride)
    trainable = [[parameter.requires_grad for parameter in stage.parameters()] for stage in backbone.stages]
    assert [any(flags) for flags in trainable] == [index >= frozen for index in range(4)]
    assert [all(flags) for flags in trainable] == [index >= frozen for index in range(4)]
    assert len(backbone.frozen_stages()) == frozen


def test_training_moves_only_free_stages(backbone: Backbone) -> None:
    backbone.freeze(8)
    backbone.train()
    assert [stage.training for stage in backbone.stages] == [False, False, True, True]
    frozen, free = nn.ModuleList(backbone.stages[:2]), nn.ModuleList(backbone.stages[2:])
    before, free_before = statistics_of(frozen), statistics_of(free)
    sum(feature.sum() for feature in backbone(torch.randn(2, 3, 64, 64))).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, statistics_of(frozen), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(free_before, statistics_of(free), strict=True))
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in free.parameters())
    backbone.zero_grad()
    backbone.freeze(0)
    assert all(stage.training for stage in backbone.stages)


@pytest.mark.parametrize("make_trunk", [lambda backbone: backbone.frozen_stages(), FrozenTrunk], ids=["torch", "onnx"])
def test_a_trunk_takes_the_place_of_the_frozen_stages(
    backbone: Backbone, make_trunk: Callable[[Backbone], object]
) -> None:
    backbone.freeze(8)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    trunk = make_trunk(backbone)
    assert not any(stage.training for stage in backbone.stages)
    calls = []

    def all_maps(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        calls.append(len(x))
        if isinstance(trunk, FrozenTrunk):
            return trunk(x)
        maps = [x]
        for stage in trunk:
            maps.append(stage(maps[-1]))
        return tuple(maps[1:])

    with torch.no_grad():
        expected = backbone(images)
        backbone.use_trunk(all_maps)
        found = backbone(images)
        backbone.use_trunk(None)
        restored = backbone(images)
    assert calls == [2]
    for a, b, c in zip(expected, found, restored, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)
        assert torch.equal(c, a)


def test_stages_strides_and_channels_must_agree() -> None:
    with pytest.raises(InvalidInputError, match="1 stages"):
        Backbone("odd", [nn.Identity()], strides=(4, 8), channels=(3,), normalization=IMAGENET_NORMALIZATION)
