"""Reading a checkpoint file that the user names: tensors only, never code."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vision.errors import WeightsError


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or .pth file by name, in the file's order, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, holds pickled objects other than tensors, or no flat state dict.
    """
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")  # it fails right after, in our words
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch's unpickler raises whatever the bytes make it trip over
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise WeightsError(
            f"{path} must be a readable checkpoint of tensors only, got: {reason}; "
            "save a state dict with safetensors.torch.save_file or torch.save",
            path=path,
        ) from exc
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} must hold a state dict (name -> tensor), got a {type(state).__name__} of other things; "
            "save network.state_dict() alone",
            path=path,
        )
    return state
