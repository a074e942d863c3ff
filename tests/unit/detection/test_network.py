"""The detector network: shapes on every size, levels, prior, strides that cannot be built."""

from __future__ import annotations

import pytest
import torch

from vision.backbones.registry import build_backbone
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.network import PRIOR, AnchorDetectorNetwork
from vision.errors import ConfigError

LITE0 = "tf_efficientnet_lite0"


def build(classes: int = 2, **anchors: tuple[float, ...]) -> AnchorDetectorNetwork:
    torch.manual_seed(0)
    config = AnchorConfig(**anchors)  # type: ignore[arg-type]
    return AnchorDetectorNetwork(
        build_backbone(LITE0), num_classes=classes, anchors=config, channels=16, head_depth=1
    ).eval()


@pytest.fixture(scope="module")
def network() -> AnchorDetectorNetwork:
    return build()


@pytest.mark.parametrize("size_hw", [(64, 64), (64, 192), (192, 128)])
def test_one_row_for_each_anchor(network: AnchorDetectorNetwork, size_hw: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits, deltas = network(torch.zeros(2, 3, *size_hw))
    count = len(make_anchors(network.anchors, size_hw).boxes)
    assert logits.shape == (2, count, 2)
    assert deltas.shape == (2, count, 4)


@pytest.mark.parametrize("strides", [(8, 16, 32, 64), (4, 8), (16,), (32, 64, 128), (8, 16, 32)])
def test_strides_and_ratios_set_the_anchors(strides: tuple[int, ...]) -> None:
    network = build(strides=strides, ratios=(0.5, 1.0, 2.0))
    with torch.inference_mode():
        logits, _ = network(torch.zeros(1, 3, 128, 256))
    assert logits.shape[1] == len(make_anchors(network.anchors, (128, 256)).boxes)


@pytest.mark.parametrize("strides", [(8, 12), (2, 4, 8), (64, 128), (8, 32), (8, 16, 32, 128), (8, 16, 64)])
def test_strides_that_cannot_be_built_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"tf_efficientnet_lite0's \(4, 8, 16, 32\) or doublings"):
        build(strides=strides)


def test_scores_start_at_the_prior(network: AnchorDetectorNetwork) -> None:
    with torch.inference_mode():
        scores = network(torch.randn(1, 3, 64, 64))[0].sigmoid()
    assert scores.mean().item() == pytest.approx(PRIOR, rel=0.5)


def test_rows_are_in_the_order_of_the_anchors(network: AnchorDetectorNetwork) -> None:
    """A changed corner of the picture moves the rows of the anchors there most, on the finest level."""
    images = torch.zeros(2, 3, 512, 512)
    images[1, :, -32:, :32] = 1
    with torch.inference_mode():
        logits, _ = network(images)
    finest = make_anchors(network.anchors, (512, 512)).counts[0]
    changed = (logits[1] - logits[0]).abs().sum(dim=1)[:finest].reshape(64, 64)
    row, column = divmod(int(changed.argmax()), 64)
    assert row > 48
    assert column < 16


def test_batch_norms_belong_to_levels_and_weights_are_shared(network: AnchorDetectorNetwork) -> None:
    assert len(network.class_head.norms) == 4
    assert len(network.class_head.tower) == 1


def test_every_parameter_gets_a_gradient() -> None:
    network = build().train()
    logits, deltas = network(torch.randn(2, 3, 64, 64))
    (logits.sum() + deltas.sum()).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []
