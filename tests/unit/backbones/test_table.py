"""The table of docs/backbones.md says what the networks and their publishers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from vision.backbones.registry import CLASSIFIERS
from vision.remote import known_weights

PAGE = Path(__file__).parents[3] / "docs" / "backbones.md"


def expected_row(name: str) -> str:
    """Return the row of one classifier, from the network itself and from what is known of its weights."""
    recipe = CLASSIFIERS[name]
    with torch.device("meta"):
        classifier = recipe.cut(recipe.make())
    backbone = classifier.backbone
    cells = [
        f"`{name}`",
        count(classifier),
        count(backbone),
        numbers(backbone.strides),
        numbers(backbone.channels),
        str(classifier.native_hw[0]),
        *weights_cells(name),
    ]
    return f"| {' | '.join(cells)} |"


def count(network: nn.Module) -> str:
    """Return the number of parameters in millions, or in thousands if there are few."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if parameters >= 1e6:
        return f"{parameters / 1e6:.2f} M"
    return f"{parameters / 1e3:.1f} k" if parameters else "0"


def weights_cells(name: str) -> Iterator[str]:
    """Yield where the weights are from, their top-1 accuracy, and the licence that their publisher states."""
    recipe = CLASSIFIERS[name]
    if not recipe.published:
        yield from ("none: train it", "", "")
        return
    known = known_weights(name)
    size = "" if known.size_bytes is None else f", {known.size_bytes / 1e6:.0f} MB"
    package = f", or the extra `{recipe.extra}`" if recipe.extra else ""
    yield f"`pull`{size}{package}"
    yield f"{float(known.quality.rpartition(' ')[2]):.1f}" if known.quality else ""
    yield known.licence


def numbers(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_network_has_its_row(name: str) -> None:
    assert expected_row(name) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_table_has_no_other_rows() -> None:
    table = PAGE.read_text(encoding="utf-8").split("\n\n")[2]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(CLASSIFIERS)
