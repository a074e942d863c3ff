"""The detector networks of every family: shapes on every size, levels, prior, strides that cannot be built."""

from __future__ import annotations

import pytest
import torch

from vision.backbones.registry import build_backbone
from vision.detection.anchors import AnchorConfig, make_anchors
from vision.detection.architecture import (
    FAMILIES,
    architecture_from,
    build_network,
    make_architecture,
)
from vision.detection.assigner import ASSIGNERS
from vision.detection.config import DetectorFamily
from vision.detection.fpn_lite import SharedHead, build_fpn_lite
from vision.detection.losses import DetectionTarget, detection_loss
from vision.detection.network import PRIOR, AnchorDetectorNetwork
from vision.detection.ssd import ChannelNorm
from vision.errors import ConfigError

LITE0 = "tf_efficientnet_lite0"


def build(classes: int = 2, **anchors: tuple[float, ...]) -> AnchorDetectorNetwork:
    torch.manual_seed(0)
    config = AnchorConfig(**anchors)  # type: ignore[arg-type]
    return build_fpn_lite(build_backbone(LITE0), num_classes=classes, anchors=config, channels=16, head_depth=1).eval()


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
    assert isinstance(network.class_head, SharedHead)
    assert len(network.class_head.norms) == 4
    assert len(network.class_head.tower) == 1


# --- all families ---


def build_family(family: DetectorFamily, backbone: str = "resnet18", **sizes: object) -> AnchorDetectorNetwork:
    torch.manual_seed(0)
    architecture = make_architecture(family, backbone, channels=16, **sizes)  # type: ignore[arg-type]
    return build_network(architecture, build_backbone(backbone), num_classes=2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size_hw", [(64, 64), (192, 320)])
def test_every_family_gives_one_row_for_each_anchor(family: DetectorFamily, size_hw: tuple[int, int]) -> None:
    network = build_family(family).eval()
    assert size_hw[0] % network.multiple == size_hw[1] % network.multiple == 0
    with torch.inference_mode():
        logits, deltas = network(torch.randn(2, 3, *size_hw))
    count = len(make_anchors(network.anchors, size_hw).boxes)
    assert logits.shape == (2, count, 2)
    assert deltas.shape == (2, count, 4)
    assert logits.sigmoid().median().item() == pytest.approx(PRIOR, rel=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(family: DetectorFamily) -> None:
    network = build_family(family).train()
    logits, deltas = network(torch.randn(2, 3, 128, 128))
    (logits.square().sum() + deltas.square().sum()).backward()
    unused = set(network.neck.strides) ^ set(network.backbone.strides)
    assert unused <= {4, 8}  # finer maps feed the coarser ones
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backbone", ["mobilenet_v3_small", "googlenet", "vgg11"])
def test_every_family_on_other_backbones(family: DetectorFamily, backbone: str) -> None:
    network = build_family(family, backbone).eval()
    with torch.inference_mode():
        logits, _ = network(torch.zeros(1, 3, 64, 64))
    assert logits.shape[1] == len(make_anchors(network.anchors, (64, 64)).boxes)


@pytest.mark.parametrize(
    ("family", "anchors_a_cell", "levels"), [("fpn-lite", 1, 4), ("retinanet", 9, 5), ("ssd", 6, 5), ("ssdlite", 6, 4)]
)
def test_anchors_of_the_papers(family: DetectorFamily, anchors_a_cell: int, levels: int) -> None:
    anchors = make_architecture(family, "resnet18").anchors
    assert (len(anchors.shapes), len(anchors.strides)) == (anchors_a_cell, levels)


def test_sizes_of_the_papers() -> None:
    retinanet = make_architecture("retinanet", "resnet50")
    assert (retinanet.channels, retinanet.head_depth) == (256, 4)
    # 32 to 512 pixels, and 2^(2/3) times that at the largest (Lin 2017b, section 4).
    assert [size * stride for stride in (8, 128) for size, _ in retinanet.anchors.shapes[:1]] == [32, 512]
    assert retinanet.anchors.shapes[2][0] == pytest.approx(4 * 2 ** (2 / 3))
    ssd = make_architecture("ssd", "vgg16")
    assert ssd.anchors.shapes[-1] == pytest.approx((4 * 2**0.5, 1.0))


def test_own_sizes_replace_the_family_s() -> None:
    own = make_architecture(
        "ssd", "resnet18", channels=8, strides=(8, 16), anchor_scale=2.0, anchor_ratios=(1.0, 3.0), anchor_octaves=2
    )
    assert own.channels == 8
    assert own.anchors == AnchorConfig(strides=(8, 16), scale=2.0, ratios=(1.0, 3.0), octaves=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_architecture_survives_its_card(family: DetectorFamily) -> None:
    architecture = make_architecture(family, "resnet18", anchor_scale=3.5)
    assert architecture_from(architecture.to_dict()) == architecture


def test_cards_without_a_family_are_fpn_lite() -> None:
    table = make_architecture("fpn-lite", "resnet18").to_dict()
    table["anchors"] = {"strides": [8, 16, 32, 64], "scale": 4.0, "ratios": [1.8]}
    del table["family"]
    assert architecture_from(table) == make_architecture("fpn-lite", "resnet18")


@pytest.mark.parametrize(
    ("family", "loss", "assigner"),
    [
        ("fpn-lite", "qfl", "atss"),
        ("retinanet", "focal", "iou"),
        ("ssd", "multibox", "iou"),
        ("ssdlite", "multibox", "iou"),
    ],
)
def test_every_family_learns_two_pictures(family: DetectorFamily, loss: str, assigner: str) -> None:
    network = build_family(family, "mobilenet_v3_small", anchor_scale=2.0).train()
    images = torch.randn(2, 3, 64, 64)
    targets = [
        DetectionTarget(torch.tensor([box]), torch.tensor([0])) for box in ([8.0, 8, 40, 40], [20.0, 16, 60, 60])
    ]
    anchors = make_anchors(network.anchors, (64, 64))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    totals = []
    for _ in range(20):
        found = detection_loss(*network(images), anchors, targets, assign=ASSIGNERS[assigner], loss=loss)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        totals.append(found.total.item())
    assert totals[-1] < 0.8 * totals[0]


def test_ssd_heads_have_no_tower() -> None:
    with pytest.raises(ConfigError, match="no tower, got head_depth=2; leave it out"):
        build_family("ssdlite", head_depth=2)


def test_channel_norm_gives_every_place_the_learnt_length() -> None:
    norm = ChannelNorm(6)
    lengths = norm(torch.randn(2, 6, 3, 5)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 20.0))
