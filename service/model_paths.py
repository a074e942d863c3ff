"""Models that an operator names by the path of their folder, such as the one that a training has just written.

Clients never name paths. So the folder around such a model becomes part of this process's store, and from then on it is
a model like any other, called by its name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from service.settings import Settings
from vision.card import CARD_FILE
from vision.store import MODELS_VARIABLE, store_folders

_FIELDS = ("detector", "segmenter", "classifier", "embedder")


def add_model_folders(settings: Settings) -> Settings:
    """Return the settings with names in place of paths; extends STRIDE32_MODELS of this process by their folders."""
    changed: dict[str, Any] = {name: _named(getattr(settings, name)) for name in _FIELDS}
    changed["preload"] = tuple(_named(name) for name in settings.preload)
    return settings.model_copy(update=changed)


def _named(model: str) -> str:
    """Return the name of the model in a folder, after adding the folder to the store; other names as they are."""
    # As `find_model` does: a name of the store wins over a folder that happens to be called so.
    if any((folder / model / CARD_FILE).is_file() for folder in store_folders() if Path(model).name == model):
        return model
    folder = Path(model).expanduser().resolve()
    if not (folder / CARD_FILE).is_file():
        return model
    stores = [str(folder.parent), *filter(None, os.environ.get(MODELS_VARIABLE, "").split(os.pathsep))]
    os.environ[MODELS_VARIABLE] = os.pathsep.join(dict.fromkeys(stores))
    return folder.name
