"""Training a classifier from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from vision.backbones.interface import Classifier
from vision.classification.input import InputSpec
from vision.classification.readout import Readout
from vision.errors import ConfigError
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.classification import PlainPictures, TrainingPictures
from vision.training.datasets.labels import LabelledData, load_labelled_data, target_array
from vision.training.export_classifier import export_classifier
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.run import train
from vision.training.sampling import EpochSampler
from vision.training.tasks.classifier import MONITORS, ClassifierTask, balanced_weights
from vision.types import FloatArray

VALIDATION_BATCH = 64


def train_classifier(config: ClassifierTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(CLASSIFIER, config)


def prepare_classifier(config: ClassifierTrainingConfig) -> Callable[[ClassifierTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the pictures that ``config`` names.

    Raises:
        InvalidInputError: the labels or all pictures cannot be used; the message names file and remedy.
    """
    data = load_labelled_data(config)
    train_targets, val_targets = (
        target_array(side, config.task, len(data.class_names)) for side in (data.train, data.val)
    )

    def make(config: ClassifierTrainingConfig) -> Parts:
        readout = training_readout(config, data.class_names, train_targets)
        weights = None
        if config.class_weights == "balanced" and config.task != "regression":
            weights = balanced_weights(train_targets, several=config.task == "multilabel")
        task = ClassifierTask(config, readout, weights)
        spec = training_input(config, task.network)
        loader = DataLoader(
            TrainingPictures(data.train, train_targets, spec, config),
            batch_size=config.batch_size,
            sampler=EpochSampler(len(data.train), config.seed),
            num_workers=config.workers,
            persistent_workers=config.workers > 0,
            # Batch norm cannot train on one picture.
            drop_last=len(data.train) % config.batch_size == 1 and len(data.train) > config.batch_size,
            pin_memory=torch.cuda.is_available(),
        )
        validation = DataLoader(PlainPictures(data.val, val_targets, spec), batch_size=VALIDATION_BATCH)
        monitor, mode = MONITORS[config.task]
        return Parts(
            task,
            loader,
            validation,
            monitor=monitor,
            mode=mode,
            summary=_summary(config, data),
            labels={"readout": readout, "spec": spec},
        )

    return make


def _export(config: ClassifierTrainingConfig, parts: Parts) -> None:
    export_classifier(config, parts.labels["readout"], parts.labels["spec"])
    report_run(config.out)


CLASSIFIER = Recipe(ClassifierTrainingConfig, prepare_classifier, _export)


def training_readout(
    config: ClassifierTrainingConfig, class_names: tuple[str, ...], train_targets: FloatArray
) -> Readout:
    """Return what the outputs of the run's network mean; a regression's mean and scale are those of the training."""
    if config.task != "regression":
        return Readout(task=config.task, class_names=class_names)
    values = train_targets.astype(np.float64)
    return Readout(task="regression", unit=config.unit, mean=float(values.mean()), scale=float(values.std()))


def training_input(config: ClassifierTrainingConfig, network: Classifier) -> InputSpec:
    """Return the input of the run's network.

    Raises:
        ConfigError: the backbone cannot take pictures of that size.
    """
    size_hw = (config.image_size, config.image_size) if config.image_size else network.native_hw
    _check_size(network, size_hw)
    return InputSpec(
        size_hw=size_hw,
        resize=config.resize,
        crop_share=config.crop_share,
        normalization=network.backbone.normalization,
    )


def _check_size(network: Classifier, size_hw: tuple[int, int]) -> None:
    """Raise unless the sides are multiples of the last stride and its map divides evenly into the head's grid."""
    backbone = network.backbone
    stride, trim = backbone.strides[-1], backbone.trim[-1]
    cells = [side // stride - trim for side in size_hw]
    pool = next(module for module in network.head if isinstance(module, nn.AdaptiveAvgPool2d))
    grid = pool.output_size if isinstance(pool.output_size, tuple) else (pool.output_size,) * 2
    fits = all(count > 0 and count % (wanted or count) == 0 for count, wanted in zip(cells, grid, strict=True))
    if any(side % stride for side in size_hw) or not fits:
        raise ConfigError(
            f"{backbone.name} takes pictures whose sides are multiples of {stride} and whose last feature map divides "
            f"into {grid[0]} x {grid[1]} cells, got {size_hw[0]} x {size_hw[1]}; leave image_size out for its native "
            f"{network.native_hw[0]} x {network.native_hw[1]}"
        )


def _summary(config: ClassifierTrainingConfig, data: LabelledData) -> str:
    what = f"{len(data.train)} pictures, {len(data.val)} for validation; "
    if config.task == "regression":
        return what + f"values in {config.unit or 'no unit'}"
    shown = ", ".join(data.class_names[:8]) + (", ..." if len(data.class_names) > 8 else "")
    return what + f"{len(data.class_names)} classes: {shown}"
