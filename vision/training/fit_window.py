"""Training a sliding-window detector from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.training.datasets.training_data import load_training_data
from vision.training.datasets.windows import PictureCache, WindowPatches, collate
from vision.training.export_window import export_window
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.run import train
from vision.training.sampling import EpochSampler
from vision.training.tasks.window import WindowTask
from vision.training.window_config import WindowTrainingConfig


def train_window(config: WindowTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(WINDOW, config)


def prepare_window(config: WindowTrainingConfig) -> Callable[[WindowTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the data that ``config`` names.

    Raises:
        InvalidInputError: annotations or pictures cannot be used; the message names the file.
    """
    data = load_training_data(config)
    cache = PictureCache(config.cache_mb)

    def make(config: WindowTrainingConfig) -> Parts:
        task = WindowTask(config, data.class_names, data.val)
        network = task.network
        patches = WindowPatches(data.train, config, network.geometry, network.backbone.normalization, cache)
        task.patches = patches
        loader = DataLoader(
            patches,
            batch_size=config.batch_size,
            sampler=EpochSampler(len(patches), config.seed),
            num_workers=config.workers,
            collate_fn=collate,
            # Workers start anew in each epoch, or they would not learn of the false positives mined since.
            persistent_workers=False,
            pin_memory=torch.cuda.is_available(),
        )
        # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
        validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
        height, width = network.geometry.crop_hw
        return Parts(
            task,
            loader,
            validation,
            monitor="val_ap",
            summary=f"{len(patches)} pictures, windows of {height} x {width} pixels; "
            f"classes: {', '.join(data.class_names)}",
            labels={"class_names": data.class_names},
        )

    return make


def _export(config: WindowTrainingConfig, parts: Parts) -> None:
    export_window(config, parts.labels["class_names"])
    report_run(config.out)


WINDOW = Recipe(WindowTrainingConfig, prepare_window, _export)
