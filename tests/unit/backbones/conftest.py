"""Classifiers without memory: on torch's meta device a network has shapes only, so all of them can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch

from vision.backbones.interface import Classifier
from vision.backbones.registry import build_classifier


@cache
def build_on_meta(name: str) -> Classifier:
    with torch.device("meta"):
        return build_classifier(name, 7).eval()


@pytest.fixture(scope="session")
def on_meta() -> Callable[[str], Classifier]:
    """Return a function that gives a classifier of 7 classes in evaluation mode; do not change it."""
    return build_on_meta
