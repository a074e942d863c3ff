"""Training a segmenter from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.errors import ConfigError
from vision.segmentation.losses import balanced_weights
from vision.training.datasets.segmentation import MaskedParts
from vision.training.datasets.segmentation_data import SegmentationData, load_segmentation_data
from vision.training.export_segmenter import export_segmenter
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.run import train
from vision.training.sampling import EpochSampler
from vision.training.segmenter_config import SegmenterTrainingConfig
from vision.training.tasks.segmenter import MONITOR, SegmenterTask


def train_segmenter(config: SegmenterTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(SEGMENTER, config)


def prepare_segmenter(config: SegmenterTrainingConfig) -> Callable[[SegmenterTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the pictures and masks that ``config`` names.

    Raises:
        InvalidInputError: a picture or mask cannot be used; the message names file and remedy.
    """
    data = load_segmentation_data(
        config.data,
        config.val_data,
        val_fraction=config.val_fraction,
        classes=config.classes,
        ignore=config.ignore,
        palette=config.palette,
    )
    weights = None if config.class_weights == "none" else _weights(data, config.class_weights)

    def make(config: SegmenterTrainingConfig) -> Parts:
        task = SegmenterTask(config, data.format, data.val, weights)
        if any(side % task.network.multiple for side in config.crop_hw):
            raise ConfigError(
                f"crop_hw must be multiples of {task.network.multiple}, the last stride of {config.backbone}, got "
                f"{config.crop_hw}; (320, 320) is the default"
            )
        dataset = MaskedParts(data.train, data.format, task.network.backbone.normalization, config)
        loader = DataLoader(
            dataset,
            batch_size=config.batch_size,
            sampler=EpochSampler(len(dataset), config.seed),
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            # Batch norm cannot train on one picture.
            drop_last=len(dataset) % config.batch_size == 1 and len(dataset) > config.batch_size,
            pin_memory=torch.cuda.is_available(),
        )
        # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
        validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
        shown = ", ".join(data.format.class_names[:12]) + (", ..." if len(data.format.class_names) > 12 else "")
        return Parts(
            task,
            loader,
            validation,
            monitor=MONITOR,
            summary=f"{len(data.train)} pictures, {len(data.val)} for validation; "
            f"{len(data.format.class_names)} classes: {shown}",
            labels={"format": data.format, "val": data.val},
        )

    return make


def _weights(data: SegmentationData, kind: str) -> torch.Tensor:
    """Return the weight [K] of each class in the loss; a class that is ignored has no share in the frequencies."""
    counts = torch.from_numpy(data.counts).float()
    learnt = torch.arange(len(counts)) != data.format.ignore
    weights = torch.ones_like(counts)
    weights[learnt] = balanced_weights(counts[learnt], kind=kind)
    return weights


def _export(config: SegmenterTrainingConfig, parts: Parts) -> None:
    export_segmenter(config, parts.labels["format"], parts.labels["val"])
    report_run(config.out)


SEGMENTER = Recipe(SegmenterTrainingConfig, prepare_segmenter, _export)
