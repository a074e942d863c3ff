"""Training an anchor detector from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.augmented import DetectionDataset, collate
from vision.training.datasets.training_data import load_training_data
from vision.training.export_detector import export_detector
from vision.training.run import fit, start_run
from vision.training.sampling import EpochSampler
from vision.training.tasks.detector import DetectorTask

log = logging.getLogger(__name__)


def train_detector(config: DetectorTrainingConfig) -> Path:
    """Train and return the run folder: best.ckpt, last.ckpt, metrics/ (CSV), config.toml and the exported model folder.

    Raises:
        InvalidInputError: annotations or pictures cannot be used; the message names the file.
    """
    start_run(config)
    data = load_training_data(config)
    class_names = data.class_names
    steps = config.epochs * math.ceil(len(data.train) / config.batch_size)
    task = DetectorTask(config, class_names, data.val, steps)
    dataset = DetectionDataset(data.train, config, task.network.backbone.normalization)
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=EpochSampler(len(dataset), config.seed),
        num_workers=config.workers,
        collate_fn=collate,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    log.info("training on %d pictures, %d steps; classes: %s", len(dataset), steps, ", ".join(class_names))
    # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
    validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
    fit(config, task, loader, validation, monitor="val_ap")
    export_detector(config, class_names)
    return config.out
