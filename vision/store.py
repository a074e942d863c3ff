"""The model store: named folders, each a card (``card.toml``) with weights beside it (``weights.safetensors``).

A name is looked up in the folders of the environment variable STRIDE32_MODELS, in order, then among the models that
come with Stride32: ``models/`` of a checkout, ``vision/_models/`` of an installed wheel. A path to a model folder works
as a name too.
The card is all that a loader needs to know; weights are safetensors, checked against the card's digest, never pickle.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vision.card import CARD_FILE, ModelCard, read_card, write_card
from vision.errors import ModelError, ModelNotFoundError, WeightsError

if TYPE_CHECKING:
    import torch

__all__ = [
    "MODELS_VARIABLE",
    "ModelCard",
    "check_digest",
    "file_sha256",
    "find_model",
    "list_models",
    "load_weights",
    "store_folders",
    "write_card",
]

MODELS_VARIABLE = "STRIDE32_MODELS"


def store_folders() -> list[Path]:
    """Return the folders that hold models, first wins; only those that exist."""
    named = [Path(text).expanduser() for text in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if text]
    return [folder for folder in [*named, *_shipped_folders()] if folder.is_dir()]


def _shipped_folders() -> Iterator[Path]:
    package = Path(__file__).parent
    if (package / "_models").is_dir():
        yield package / "_models"
    # Beside an installed package stands site-packages, whose `models` would be a stranger's.
    elif (package.parent / "pyproject.toml").is_file():
        yield package.parent / "models"


def list_models(on_broken: Callable[[ModelError], None] | None = None) -> list[ModelCard]:
    """Return the cards of all models in the store, by name; a name in an earlier folder hides later ones.

    Args:
        on_broken: told of each card that cannot be read, which is then left out.

    Raises:
        ModelError: a card is malformed, and nobody is to be told.
    """
    cards = []
    for name, folder in sorted(_model_folders().items()):
        try:
            cards.append(_read_named(name, folder))
        except ModelError as exc:
            if on_broken is None:
                raise
            on_broken(exc)
    return cards


def find_model(name: str, kind: str | None = None) -> ModelCard:
    """Return the card of the model called ``name``, or of the model folder at that path.

    Args:
        name: a name in the store, or a path to a folder with a card.
        kind: "detector", "embedder" and so on, when only that kind will do.

    Raises:
        ModelNotFoundError: nothing has that name; lists the known names (of that kind) and the closest one.
        ModelError: the model is of another kind, or its card is malformed.
    """
    folders = _model_folders()
    if name in folders:
        card = _read_named(name, folders[name])
    elif name and (Path(name).expanduser() / CARD_FILE).is_file():
        card = read_card(Path(name).expanduser())
    else:
        raise ModelNotFoundError(name, _names_of_kind(folders, kind), kind=kind or "model")
    if kind is not None and card.kind != kind:
        known = ", ".join(_names_of_kind(folders, kind)) or "none"
        raise ModelError(
            f"expected a model of kind {kind}, got {card.name}, which is of kind {card.kind}; {kind}s here: {known}",
            expected=kind,
            actual=card.kind,
            path=card.folder,
        )
    return card


def load_weights(card: ModelCard) -> dict[str, torch.Tensor]:
    """Return the card's tensors on the CPU, half precision widened to float32, after checking the file's sha256.

    Raises:
        WeightsError: the file is missing, no safetensors, or its digest is not the card's (both are in the message).
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = card.weights_path
    if not path.is_file():
        raise WeightsError(
            f"{card.name}: expected weights at {path}, found no file; put it there or train the model again", path=path
        )
    check_digest(card)
    try:
        tensors = load_file(path)
    except SafetensorError as exc:
        raise WeightsError(
            f"{path}: expected a safetensors file, got: {exc}; write weights with safetensors.torch.save_file",
            path=path,
        ) from exc
    halves = (torch.float16, torch.bfloat16)
    return {key: tensor.float() if tensor.dtype in halves else tensor for key, tensor in tensors.items()}


def check_digest(card: ModelCard) -> None:
    """Raise WeightsError unless the weights file has the sha256 that the card states."""
    actual = file_sha256(card.weights_path)
    if actual != card.sha256:
        raise WeightsError(
            f"{card.weights_path}: expected sha256 {card.sha256} (from the card), got {actual}; "
            "fetch the file again, or correct the card if you changed the weights on purpose",
            expected=card.sha256,
            actual=actual,
            path=card.weights_path,
        )


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_folders() -> dict[str, Path]:
    """Return name -> folder of every model in the store; cards are not read, so one broken card harms only itself."""
    found: dict[str, Path] = {}
    for store in store_folders():
        for path in sorted(store.glob(f"*/{CARD_FILE}")):
            found.setdefault(path.parent.name, path.parent)
    return found


def _read_named(name: str, folder: Path) -> ModelCard:
    card = read_card(folder)
    if card.name != name:
        raise ModelError(
            f"{folder / CARD_FILE}: name must be the folder's name {name!r}, got {card.name!r}; rename one of them",
            expected=name,
            actual=card.name,
            path=folder / CARD_FILE,
        )
    return card


def _names_of_kind(folders: dict[str, Path], kind: str | None) -> list[str]:
    """Return the names to offer in an error; a broken card is no reason to hide the error at hand."""
    names = []
    for name, folder in folders.items():
        try:
            if kind is None or read_card(folder).kind == kind:
                names.append(name)
        except ModelError:
            continue
    return sorted(names)
