"""Training a single-pass embedder from a configuration: features of the frozen backbone, task, exported model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import from_numpy
from torch.utils.data import DataLoader, TensorDataset

from vision.detection.detector import load_network
from vision.detection.feature_maps import MapExtractor, load_map_extractor
from vision.reid.roi import crop_features
from vision.runtime.config import RuntimeConfig
from vision.store import find_model
from vision.training.datasets.canvases import PooledDataset, pool_training_features, read_backgrounds
from vision.training.datasets.crops import CropSet, PeopleSampler, load_crops, read_crop_folder, split_people
from vision.training.export_roi_embedder import export_roi_embedder
from vision.training.recipe import Parts, Recipe
from vision.training.report.write import report_run
from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig
from vision.training.run import train
from vision.training.tasks.roi_embedder import RoiEmbedderTask

VALIDATION_BATCH = 128


def train_roi_embedder(config: RoiEmbedderTrainingConfig) -> Path:
    """Train and return the run folder; see vision.training.run.train."""
    return train(ROI_EMBEDDER, config)


def prepare_roi_embedder(config: RoiEmbedderTrainingConfig) -> Callable[[RoiEmbedderTrainingConfig], Parts]:
    """Return the function that makes task and loaders from the crops that ``config`` names.

    The backbone runs here, once: it is frozen, so the features of a crop on a canvas stay what they are, and the head
    alone is trained on them. A run that is resumed computes them again, the same ones.

    Raises:
        InvalidInputError: the crops or the backgrounds cannot be used; the message says which.
        ModelError: the detector is not an anchor detector with such strides.
    """
    files = read_crop_folder(config.data)
    train_people, val_people = split_people([file.person for file in files], config.holdout_people)
    train_crops, val_crops = load_crops(files, train_people), load_crops(files, val_people)
    source = load_backbone(config)
    pooled = pool_training_features(
        source,
        train_crops,
        read_backgrounds(config.backgrounds),
        variants=config.variants,
        canvas=config.canvas,
        heights=config.heights,
        seed=config.seed,
    )
    validation_set = _validation_set(source, val_crops, config.val_height)

    def make(config: RoiEmbedderTrainingConfig) -> Parts:
        sampler = PeopleSampler(pooled.person_ids, people=config.people, crops=config.crops, seed=config.seed)
        task = RoiEmbedderTask(config, channels=pooled.features.shape[2], people=len(train_people))
        # batch_size None: the sampler plans whole batches, and the set makes each at once.
        loader = DataLoader(PooledDataset(pooled), batch_size=None, sampler=sampler)
        summary = f"{len(pooled)} crops of {len(train_people)} people, each pasted {config.variants} times"
        validation = DataLoader(validation_set, batch_size=VALIDATION_BATCH)
        return Parts(task, loader, validation, monitor="val_rank1", summary=summary)

    return make


def load_backbone(config: RoiEmbedderTrainingConfig) -> MapExtractor:
    """Return what computes the maps of the configured detector's backbone."""
    card = find_model(config.detector, kind="detector")
    device = "auto" if config.device == "auto" else config.device
    runtime = RuntimeConfig(device=device, threads=config.threads)
    return load_map_extractor(card, load_network(card), config.strides, runtime)


def _export(config: RoiEmbedderTrainingConfig, parts: Parts) -> None:
    export_roi_embedder(config, load_backbone(config))
    report_run(config.out)


ROI_EMBEDDER = Recipe(RoiEmbedderTrainingConfig, prepare_roi_embedder, _export, batch_field="people")


def _validation_set(source: MapExtractor, crops: CropSet, height: int) -> TensorDataset:
    """Return the held-out crops as tensors: pooled features float16, person ids, camera ids."""
    features = crop_features(source, crops.images, height=height, fill=source.fill).astype(np.float16)
    return TensorDataset(from_numpy(features), from_numpy(crops.person_ids), from_numpy(crops.camera_ids))
