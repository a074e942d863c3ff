"""Training a sliding-window detector from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.training.datasets.training_data import load_training_data
from vision.training.datasets.windows import WindowPatches, collate
from vision.training.export_window import export_window
from vision.training.run import fit, start_run
from vision.training.sampling import EpochSampler
from vision.training.tasks.window import WindowTask
from vision.training.window_config import WindowTrainingConfig

log = logging.getLogger(__name__)


def train_window(config: WindowTrainingConfig) -> Path:
    """Train and return the run folder: best.ckpt, last.ckpt, metrics/ (CSV), config.toml and the exported model folder.

    Raises:
        InvalidInputError: annotations or pictures cannot be used; the message names the file.
    """
    start_run(config)
    data = load_training_data(config)
    task = WindowTask(config, data.class_names, data.val)
    network = task.network
    patches = WindowPatches(data.train, config, network.geometry, network.backbone.normalization)
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
    log.info(
        "training on %d pictures, windows of %d x %d pixels; classes: %s",
        len(patches),
        *network.geometry.crop_hw,
        ", ".join(data.class_names),
    )
    # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
    validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
    fit(config, task, loader, validation, monitor="val_ap")
    export_window(config, data.class_names)
    return config.out
