"""A small FCN model folder without training, for tests that need a segmenter and no figures of one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from vision.backbones.registry import build_classifier
from vision.card import ModelCard, write_card
from vision.segmentation.fcn import FCN
from vision.store import file_sha256

BACKBONE = "mobilenet_v3_small"
LABELS = ("road", "car", "sky", "tree")


@torch.no_grad()
def make_network(classes: int = len(LABELS), *, stride: int = 8, learnable: bool = False) -> FCN:
    """Return a seeded network whose classes all occur in a picture of noise."""
    torch.manual_seed(0)
    network = FCN(build_classifier(BACKBONE).backbone, classes, stride=stride, learnable=learnable)
    # Fresh batch norms pass on next to nothing: give them the statistics of noise.
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()(torch.rand(2, 3, 96, 128))
    for layer in network.score.values():
        nn.init.normal_(layer.weight, std=0.5)
    # Logits of usual size, and no class ahead of the others everywhere.
    noise = torch.randint(0, 256, (1, 3, 96, 128)).float()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in _constants(network))
    logits = network.eval().coarse((noise - mean) / std)
    network.score[str(network.multiple)].bias -= logits.mean(dim=(0, 2, 3))
    for layer in network.score.values():
        layer.weight /= logits.std()
        layer.bias /= logits.std()
    return network


def _constants(network: FCN) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return network.backbone.normalization.mean, network.backbone.normalization.std


def write_segmenter(
    folder: Path, labels: tuple[str, ...] = LABELS, *, stride: int = 8, learnable: bool = False, long_side: int = 0
) -> ModelCard:
    """Write a model folder and return its card."""
    network = make_network(len(labels), stride=stride, learnable=learnable)
    folder.mkdir(parents=True)
    weights = folder / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, weights)
    normalization = network.backbone.normalization
    card = ModelCard(
        name=folder.name,
        kind="segmenter",
        summary="untrained",
        folder=folder,
        architecture={"family": "fcn", "backbone": BACKBONE, "stride": stride, "learnable": learnable},
        preprocess={"long_side": long_side, "mean": list(normalization.mean), "std": list(normalization.std)},
        labels=labels,
        sha256=file_sha256(weights),
        licence="Apache-2.0",
    )
    write_card(folder, card)
    return card
