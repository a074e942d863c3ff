"""Loading a model card's weights into its network: every tensor accounted for, both sides named when they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vision.card import ModelCard
from vision.errors import ModelError, WeightsError
from vision.runtime.preprocess import Normalization
from vision.store import load_weights


def load_into(network: nn.Module, card: ModelCard) -> None:
    """Copy the card's weights into ``network``.

    Raises:
        WeightsError: the file is missing or altered, or a tensor is missing, unknown or of another shape.
    """
    weights = load_weights(card)
    difference = compare_tensors(network.state_dict(), weights)
    if difference is not None:
        raise WeightsError(
            f"{card.weights_path} must fit the card's architecture {dict(card.architecture)}: {difference}; "
            "export the model again",
            expected=difference.expected,
            actual=difference.found,
            path=card.weights_path,
        )
    network.load_state_dict(weights)


@dataclass(frozen=True, slots=True)
class Difference:
    """How the tensors of a file differ from those of a network: both sides in words, and the counts."""

    expected: str
    found: str
    counts: str

    def __str__(self) -> str:
        return f"expected {self.expected}, found {self.found} ({self.counts})"


def compare_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Difference | None:
    """Return how ``given`` differs from ``expected`` in names and shapes, or None when it does not."""
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    shapes = sorted(name for name in expected.keys() & given.keys() if expected[name].shape != given[name].shape)
    if not (missing or extra or shapes):
        return None
    return Difference(
        expected=_first([*missing, *(_shaped(name, expected) for name in shapes)]) or "no more",
        found=_first([*extra, *(_shaped(name, given) for name in shapes)]) or "nothing",
        counts=f"{len(missing)} missing, {len(extra)} unknown, {len(shapes)} of another shape",
    )


def _first(names: list[str]) -> str:
    return ", ".join(names[:2])


def _shaped(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(tensors[name].shape)}"


def card_value(card: ModelCard, place: str, key: str) -> Any:
    """Return a value that a loader needs from the card's table ``place`` ("architecture", "preprocess"); ModelError if
    absent."""
    table: Mapping[str, Any] = getattr(card, place)
    if key not in table:
        raise ModelError(
            f"{card.name}: the card of a {card.kind} must have {place}.{key}, "
            f"found {', '.join(table) or 'nothing'}; add it",
            path=card.folder,
        )
    return table[key]


def card_normalization(card: ModelCard) -> Normalization:
    """Return the constants that the card's network was trained with; ModelError if absent."""
    mean, std = (card_value(card, "preprocess", key) for key in ("mean", "std"))
    return Normalization(tuple(mean), tuple(std))
