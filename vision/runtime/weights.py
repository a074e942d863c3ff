"""Loading a model card's weights into its network: every tensor accounted for, both sides named when they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vision.card import ModelCard
from vision.errors import ModelError, WeightsError
from vision.store import load_weights


def load_into(network: nn.Module, card: ModelCard) -> None:
    """Copy the card's weights into ``network``.

    Raises:
        WeightsError: the file is missing or altered, or a tensor is missing, unknown or of another shape.
    """
    weights = load_weights(card)
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    shapes = sorted(name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape)
    if missing or extra or shapes:
        wanted = _first([*missing, *(_shaped(name, expected) for name in shapes)]) or "no more"
        found = _first([*extra, *(_shaped(name, weights) for name in shapes)]) or "nothing"
        raise WeightsError(
            f"{card.weights_path} must fit the card's architecture {dict(card.architecture)}: expected {wanted}, "
            f"found {found} ({len(missing)} missing, {len(extra)} unknown, {len(shapes)} of another shape); "
            "export the model again",
            expected=wanted,
            actual=found,
            path=card.weights_path,
        )
    network.load_state_dict(weights)


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
