"""Training an anchor detector from a configuration: data, task, trainer, exported model."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.coco import AnnotatedImage, DetectionDataset, collate, read_coco, readable_images
from vision.training.export_detector import export_detector
from vision.training.run import build_trainer, resume_path, start_run
from vision.training.sampling import EpochSampler
from vision.training.tasks.detector import DetectorTask

log = logging.getLogger(__name__)


def train_detector(config: DetectorTrainingConfig) -> Path:
    """Train and return the run folder: best.ckpt, last.ckpt, metrics/ (CSV), config.toml and the exported model folder.

    Raises:
        InvalidInputError: annotations or pictures cannot be used; the message names the file.
    """
    start_run(config.out, config, seed=config.seed, threads=config.threads)
    train_images, class_names = load_training_images(config)
    val_images, _ = read_coco(config.val_json, class_names)
    steps = config.epochs * math.ceil(len(train_images) / config.batch_size)
    task = DetectorTask(config, class_names, readable_images(val_images), steps)
    dataset = DetectionDataset(train_images, config, task.network.backbone.normalization)
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
    trainer = build_trainer(
        config.out,
        epochs=config.epochs,
        monitor="val_ap",
        ema_decay=config.ema_decay,
        clip_norm=config.clip_norm,
        device=config.device,
        precision=config.precision,
        eval_every=min(config.eval_every, config.epochs),
    )
    # Validation happens on whole pictures in the task; Lightning wants a loader to call it at all.
    validation: DataLoader[torch.Tensor] = DataLoader(torch.zeros(1), batch_size=1)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        # Frozen stages are in evaluation mode on purpose: their batch statistics must not drift.
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        trainer.fit(task, loader, validation, ckpt_path=resume_path(config.out, config.resume), weights_only=True)
    export_detector(config, class_names)
    return config.out


def load_training_images(config: DetectorTrainingConfig) -> tuple[list[AnnotatedImage], tuple[str, ...]]:
    """Return the readable training pictures, background pictures last, and the class names."""
    images, class_names = read_coco(config.train_json, config.classes)
    if config.negatives_json is not None:
        # Only pictures that show none of the classes; the rest might hold unmarked objects.
        extra, _ = read_coco(config.negatives_json, class_names)
        known = {image.image_id for image in images}
        images += [image for image in extra if len(image.labels) == 0 and image.image_id not in known]
    return readable_images(images), class_names
