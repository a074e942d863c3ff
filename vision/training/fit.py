"""Training an anchor detector from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.training.anchor_check import log_anchor_fit
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.augmented import DetectionDataset, collate
from vision.training.datasets.training_data import load_training_data
from vision.training.export_detector import export_detector
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.run import train
from vision.training.sampling import EpochSampler
from vision.training.tasks.detector import DetectorTask, architecture_of

log = logging.getLogger(__name__)


def train_detector(config: DetectorTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(DETECTOR, config)


def prepare_detector(config: DetectorTrainingConfig) -> Callable[[DetectorTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the data that ``config`` names.

    Raises:
        InvalidInputError: annotations or pictures cannot be used; the message names the file.
    """
    data = load_training_data(config)
    log_anchor_fit(config, architecture_of(config).anchors, data.train)

    def make(config: DetectorTrainingConfig) -> Parts:
        task = DetectorTask(config, data.class_names, data.val)
        dataset = DetectionDataset(data.train, config, task.network.backbone.normalization)
        loader = DataLoader(
            dataset,
            batch_size=config.batch_size,
            sampler=EpochSampler(len(dataset), config.seed),
            num_workers=config.workers,
            collate_fn=collate,
            persistent_workers=config.workers > 0,
            # Batch norm cannot train on one picture whose coarsest map is a single cell.
            drop_last=len(dataset) % config.batch_size == 1 and len(dataset) > config.batch_size,
            pin_memory=torch.cuda.is_available(),
        )
        # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
        validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
        return Parts(
            task,
            loader,
            validation,
            monitor="val_ap",
            summary=f"{len(dataset)} pictures; classes: {', '.join(data.class_names)}",
            labels={"class_names": data.class_names},
        )

    return make


def _export(config: DetectorTrainingConfig, parts: Parts) -> None:
    export_detector(config, parts.labels["class_names"])
    report_run(config.out)


DETECTOR = Recipe(DetectorTrainingConfig, prepare_detector, _export)
