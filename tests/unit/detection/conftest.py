"""A small sliding-window network that several test files share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vision.detection.window_network import WindowArchitecture, WindowNetwork


@pytest.fixture(scope="session")
def window_network() -> WindowNetwork:
    """Return a network of 3 classes with windows of 27 x 23 pixels, 4 apart, and large, seeded outputs; do not train
    it."""
    torch.manual_seed(0)
    architecture = WindowArchitecture(stride=4, depth=0, cells_hw=(3, 2), hidden=8, size=12.0, aspects=(1.0, 2.0))
    network = WindowNetwork(architecture, 3)
    with torch.no_grad():
        for _ in range(20):
            network.train()(torch.randn(4, 3, 64, 64))
        last = network.dense.head[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=0.7)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return network.eval().requires_grad_(False)
