"""Reading a checkpoint file that the user names into a network: tensors only, never code, and all accounted for."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vision.errors import WeightsError
from vision.runtime.weights import compare_tensors


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


# A counter of batch norm that files from before 2018 lack and that nothing but a momentum of None reads.
COUNTER = ".num_batches_tracked"


def load_by_name(network: nn.Module, path: Path, *, ignored: tuple[str, ...] = ()) -> None:
    """Copy a checkpoint file into a network by the names of its tensors.

    Args:
        network: changed in place.
        path: .safetensors or a tensors-only .pth file.
        ignored: beginnings of names that the file may have and the network does not.

    Raises:
        WeightsError: the file cannot be read, or a tensor is missing, unknown or of another shape; names both sides.
    """
    given = {name: value for name, value in read_checkpoint(path).items() if not name.startswith(ignored)}
    own = network.state_dict()
    given |= {name: own[name] for name in own.keys() - given.keys() if name.endswith(COUNTER)}
    difference = compare_tensors(own, given)
    if difference is not None:
        raise WeightsError(
            f"{path.name} does not fit {type(network).__name__}: {difference}; pass its publisher's own checkpoint "
            "of the same name",
            expected=difference.expected,
            actual=difference.found,
            path=path,
        )
    network.load_state_dict(given)
