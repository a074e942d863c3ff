"""What the engine must know of a kind of model to train it, search its settings or measure its memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from vision.training.config import TrainingConfig

ConfigT = TypeVar("ConfigT", bound=TrainingConfig)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one run trains.

    Attributes:
        task: the Lightning module; has ``total_steps`` (vision.training.optimization.Planned).
        loader: training batches; its sampler is an EpochSampler or has the same methods.
        validation: batches for the task's ``validation_step``.
        monitor: the logged metric that chooses the best checkpoint. mode: whether it is better high or low.
        summary: one line on the data for the start of the run, such as "120 pictures; classes: bicycle".
        labels: what else the export needs, by name.
    """

    task: pl.LightningModule
    loader: DataLoader[Any]
    validation: DataLoader[Any]
    monitor: str
    summary: str
    mode: Literal["max", "min"] = "max"
    labels: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe(Generic[ConfigT]):
    """One kind of model.

    Attributes:
        config: the dataclass of its settings.
        prepare: reads the data that the settings name and returns a function that makes the parts of a run. That
            function is cheap and may be called again, with another batch size or number of epochs.
        export: writes the model folder and metrics of a finished run.
        batch_field: the setting that grows the batch.
    """

    config: type[ConfigT]
    prepare: Callable[[ConfigT], Callable[[ConfigT], Parts]]
    export: Callable[[ConfigT, Parts], None]
    batch_field: str = "batch_size"
