"""The end of every training run: half-precision weights beside a card, and the command that repeats the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

from vision.card import WEIGHTS_FILE
from vision.training.checkpoints import BEST
from vision.training.run import best_weights

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# What the card says of the data, where the run lies and how fast it went change no weight.
NOT_IN_COMMAND = frozenset(
    {
        *("out", "resume", "data_name", "data_terms", "threads", "workers", "strategy", "auto_batch"),
        *("checkpoint_minutes", "checkpoint_steps"),
    }
)

# Models that a run starts from or learns from: their folders lie elsewhere on the next machine.
MODELS = frozenset({"init", "teachers", "detector"})


def save_weights(out: Path, folder: Path, *, checkpoint: str = BEST) -> Path:
    """Write a checkpoint's weights to ``folder``; returns the file's path."""
    return write_weights(best_weights(out, checkpoint=checkpoint), folder)


def write_weights(tensors: Mapping[str, Tensor], folder: Path) -> Path:
    """Write a network's tensors to ``folder`` in half precision, which halves the file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WEIGHTS_FILE
    save_file({name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in tensors.items()}, path)
    return path


def training_command(start: str, config: DataclassInstance, *, in_start: frozenset[str]) -> str:
    """Return the command line that repeats a run.

    Args:
        start: the command with its required options, folders as placeholders.
        config: the run's settings; those that are not the default follow as --set.
        in_start: fields that ``start`` gives already.
    """
    words = [start]
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if item.name in NOT_IN_COMMAND | in_start or value == item.default:
            continue
        if item.name in MODELS:
            value = tuple(map(_place, value)) if isinstance(value, tuple) else _place(value)
        if isinstance(value, tuple):
            text = str(list(value)).replace(" ", "")
            words.append(f"--set '{item.name}={text.replace(chr(39), chr(34))}'")
        else:
            words.append(f"--set {item.name}={str(value).lower() if isinstance(value, bool) else value}")
    return " ".join(words)


def _place(model: str) -> str:
    """Return a model's name, or of its folder's path the end: run and model.

    >>> _place("reid-lite"), _place("work/runs/first/people")
    ('reid-lite', 'first/people')
    """
    return "/".join(Path(model).parts[-2:])
