"""One model from several: the mean of their weights ("model soup", Wortsman 2022, section 2).

Networks that were fine-tuned from the same start lie in one basin, and their mean is often better than each: like an
ensemble, at the cost of one network. It helps only there. Networks from different starts average to nothing; so measure
the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vision.card import WEIGHTS_FILE, ModelCard, write_card
from vision.errors import InvalidInputError, WeightsError
from vision.runtime.weights import compare_tensors
from vision.store import file_sha256, load_weights
from vision.training.export import write_weights

# What the mean has in common with its parts; scores, times and the training are each model's own.
SHARED = ("kind", "architecture", "preprocess", "labels")


def average_models(cards: Sequence[ModelCard], folder: Path, *, name: str) -> ModelCard:
    """Write the mean of the models' weights, in half precision, and its card; return the card.

    The card names what the parts were trained on and how, and has no scores: they must be measured anew.

    Args:
        cards: two models or more, equal in all but their weights.
        folder: the new model's folder; a model there is replaced.
        name: the new model's name.

    Raises:
        InvalidInputError: fewer than two models, models that differ, or one that lies in ``folder`` itself.
        WeightsError: tensors of different names or shapes.
    """
    _check(cards, folder)
    mean = mean_weights([load_weights(card) for card in cards], [card.name for card in cards])
    path = write_weights(mean, folder)
    first = cards[0]
    card = dataclasses.replace(
        first,
        name=name,
        folder=folder,
        weights_file=WEIGHTS_FILE,
        sha256=file_sha256(path),
        data=_distinct(row for card in cards for row in card.data),
        training={
            "command": f"stride32 models average {' '.join(card.folder.name for card in cards)} --out DIR",
            "parts": [{"name": card.name, **card.training} for card in cards],
            "torch": torch.__version__,
        },
        metrics=(),
        latency=(),
    )
    write_card(folder, card)
    return card


def mean_weights(models: Sequence[Mapping[str, Tensor]], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of each tensor over the models, float32; counters, which no mean suits, are the first model's.

    The statistics of batch normalisation are averaged like weights: they too are near each other in one basin.
    """
    first = models[0]
    for model, name in zip(models[1:], names[1:], strict=True):
        if difference := compare_tensors(first, model):
            raise WeightsError(
                f"models to average must have the same tensors, {name} differs from {names[0]}: {difference}; average "
                "models of one architecture",
                expected=difference.expected,
                actual=difference.found,
            )
    return {
        key: torch.stack([model[key].double() for model in models]).mean(dim=0).float()
        if tensor.is_floating_point()
        else tensor
        for key, tensor in first.items()
    }


def _check(cards: Sequence[ModelCard], folder: Path) -> None:
    if len(cards) < 2:
        raise InvalidInputError(f"an average needs two models or more, got {len(cards)}; name the others too")
    first = cards[0]
    for card in cards:
        if card.folder.resolve() == folder.resolve():
            raise InvalidInputError(f"{folder} is one of the models to average; choose another --out", path=folder)
        for field in SHARED:
            own, wanted = getattr(card, field), getattr(first, field)
            if own != wanted:
                raise InvalidInputError(
                    f"models to average must have the same {field}, {first.name} has {wanted}, {card.name} "
                    f"({card.folder}) has {own}; average models of one architecture",
                    expected=str(wanted),
                    actual=str(own),
                )


def _distinct(rows: Any) -> tuple[Mapping[str, Any], ...]:
    """Return the rows, each once, in the order of their first."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        if row not in kept:
            kept.append(row)
    return tuple(kept)
