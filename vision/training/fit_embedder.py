"""Training an embedder from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import from_numpy
from torch.utils.data import DataLoader, TensorDataset

from vision.errors import InvalidInputError
from vision.reid.embedder import load_embedder
from vision.runtime.config import RuntimeConfig
from vision.runtime.preprocess import Normalization, normalize
from vision.store import find_model
from vision.training.datasets.crops import (
    CropDataset,
    CropSet,
    PeopleSampler,
    keep_cameras,
    load_crops,
    read_crop_folder,
    split_people,
)
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.export_embedder import export_embedder
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.run import train
from vision.training.tasks.embedder import EmbedderTask
from vision.types import FloatArray

VALIDATION_BATCH = 128


def train_embedder(config: EmbedderTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(EMBEDDER, config)


def prepare_embedder(config: EmbedderTrainingConfig) -> Callable[[EmbedderTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the crops that ``config`` names.

    Raises:
        InvalidInputError: the folder of crops cannot be used, or has too few people; the message says which.
    """
    train_crops, val_crops = load_training_crops(config)

    def make(config: EmbedderTrainingConfig) -> Parts:
        sampler = PeopleSampler(train_crops.person_ids, people=config.people, crops=config.crops, seed=config.seed)
        task = EmbedderTask(config, len(train_crops.people))
        normalization = task.network.backbone.normalization
        # batch_size None: the sampler plans whole batches, and the set makes each at once.
        loader = DataLoader(
            CropDataset(train_crops, normalization, config.augmentation), batch_size=None, sampler=sampler
        )
        validation = DataLoader(_validation_set(val_crops, normalization), batch_size=VALIDATION_BATCH)
        summary = f"{len(train_crops)} crops of {len(train_crops.people)} people"
        if config.cameras:
            summary += f" by cameras {', '.join(map(str, sorted(config.cameras)))}"
        return Parts(task, loader, validation, monitor="val_rank1", summary=summary)

    return make


def _export(config: EmbedderTrainingConfig, parts: Parts) -> None:
    export_embedder(config)
    report_run(config.out)


EMBEDDER = Recipe(EmbedderTrainingConfig, prepare_embedder, _export, batch_field="people")


def load_training_crops(config: EmbedderTrainingConfig) -> tuple[CropSet, CropSet]:
    """Return the crops of the people to train on and of those held out, each by the cameras they are wanted of."""
    files = read_crop_folder(config.data)
    train_people, val_people = split_people(
        [file.person for file in files], config.holdout_people, exclude=config.exclude_people
    )
    train_files = keep_cameras(files, config.cameras)
    val_files = keep_cameras(files, config.cameras, others=True)
    val_crops = load_crops(val_files, val_people, config.size_hw)
    _check_validation(val_crops)
    train_crops = load_crops(train_files, train_people, config.size_hw)
    if config.teachers:
        train_crops = replace(train_crops, targets=ask_teachers(config, train_crops))
    return train_crops, val_crops


def ask_teachers(config: EmbedderTrainingConfig, crops: CropSet) -> FloatArray:
    """Return what the teachers make of the crops, float32 [N, all their dimensions]: unit-norm, side by side.

    Each crop is seen with its mirror image, and as it is: the student learns to see as much through what is done to its
    own crops. So the teachers look once and cost the steps nothing.
    """
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in crops.images]
    columns = []
    for name in config.teachers:
        teacher = load_embedder(
            find_model(name, "embedder"), RuntimeConfig(device=config.device, threads=config.threads)
        )
        column = teacher.embed_crops(crops.images) + teacher.embed_crops(mirrored)
        teacher.close()
        columns.append(column / np.linalg.norm(column, axis=1, keepdims=True))
    return np.concatenate(columns, axis=1)


def _check_validation(crops: CropSet) -> None:
    """Raise InvalidInputError where the held-out crops have nothing to find: better now than after an epoch."""
    seen = np.unique(np.stack([crops.person_ids, crops.camera_ids]), axis=1)[0]
    if np.bincount(seen).max() < 2:
        cameras = ", ".join(map(str, np.unique(crops.camera_ids).tolist()))
        raise InvalidInputError(
            f"validation needs a held-out person seen by two cameras, got {len(crops.people)} people by cameras "
            f"{cameras}, none by two of them; hold out more people, or train on fewer cameras"
        )


def _validation_set(crops: CropSet, normalization: Normalization) -> TensorDataset:
    """Return the held-out crops as tensors: images, person ids, camera ids."""
    images = from_numpy(np.stack([normalize(image, normalization) for image in crops.images]))
    return TensorDataset(images, from_numpy(crops.person_ids), from_numpy(crops.camera_ids))
