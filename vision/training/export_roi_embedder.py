"""The end of a single-pass embedder's training run: weights, and a card that says whose feature maps they read."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vision.card import ModelCard, write_card
from vision.detection.detector import load_network
from vision.detection.feature_maps import MapExtractor, map_channels
from vision.evaluation.reid import embed_folder, measure_crops
from vision.reid.config import CROP_HEIGHT
from vision.reid.roi import KIND, load_roi_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256, find_model
from vision.training.embedder_config import HOLDOUT_PEOPLE
from vision.training.export import save_weights, training_command
from vision.training.export_embedder import CARD_METRICS
from vision.training.report.answers import EmbedderAnswers, save_embeddings
from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig
from vision.training.run import write_metrics

log = logging.getLogger(__name__)
# Heights that the card tells the scores of besides that of the choice of the checkpoint: people far away.
FURTHER_HEIGHTS = (64,)


def export_roi_embedder(config: RoiEmbedderTrainingConfig, source: MapExtractor) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder.

    The metrics in the card are those of the exported model, measured as ``stride32 eval embedder`` does.
    """
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    card = _card(config, folder, file_sha256(weights_path))
    rows: list[dict[str, Any]] = []
    for height in dict.fromkeys((config.val_height, *FURTHER_HEIGHTS)):
        runtime = RuntimeConfig(device=config.device, threads=config.threads)
        embedder = load_roi_embedder(card, runtime, maps=source, crop_height=height)
        embeddings, crops = embed_folder(embedder, config.data, holdout=config.holdout_people)
        metrics = measure_crops(embeddings, crops)
        rows += _metric_rows(config, metrics, height)
        log.info("people %d pixels tall: %s", height, " ".join(f"{key}={value:.4f}" for key, value in metrics.items()))
        if height == config.val_height:
            write_metrics(config.out, metrics)
            save_embeddings(config.out, EmbedderAnswers(embeddings, crops.person_ids, crops.camera_ids, crops.paths))
    write_card(folder, dataclasses.replace(card, metrics=tuple(rows)))
    log.info("exported %s", folder)
    return folder


def _card(config: RoiEmbedderTrainingConfig, folder: Path, sha256: str) -> ModelCard:
    detector = find_model(config.detector, kind="detector")
    channels = map_channels(load_network(detector).backbone, config.strides)
    return ModelCard(
        name=config.name,
        kind=KIND,
        summary=f"Appearance of people, {config.dim} dimensions, from the feature maps of {detector.name}",
        folder=folder,
        architecture={
            "detector": detector.name,
            "detector_sha256": detector.sha256,
            "strides": list(config.strides),
            "channels": list(channels),
            "dim": config.dim,
            "width": config.width,
            "depth": config.depth,
        },
        preprocess={"mean": list(detector.preprocess["mean"]), "std": list(detector.preprocess["std"])},
        sha256=sha256,
        licence="Apache-2.0",
        data=tuple(_data_rows(config, detector)),
        training={
            "command": training_command(
                "stride32 train roi-embedder --data DIR --out DIR"
                + (" --backgrounds PICTURES" if config.backgrounds else ""),
                config,
                in_start=frozenset({"data", "backgrounds"}),
            ),
            "seed": config.seed,
            "epochs": config.epochs,
            "torch": torch.__version__,
        },
    )


def _data_rows(config: RoiEmbedderTrainingConfig, detector: ModelCard) -> Iterator[dict[str, str]]:
    """Yield what the weights were made from: crops, backgrounds, and what the detector had seen."""
    yield {"name": config.data_name or config.data.name, "terms": config.data_terms or "not stated"}
    if config.backgrounds:
        yield {"name": f"backgrounds: pictures of {config.backgrounds.name}", "terms": "as their source states"}
    for row in detector.data:
        yield {"name": f"through {detector.name}: {row.get('name', 'not stated')}", "terms": str(row.get("terms", ""))}


def _metric_rows(config: RoiEmbedderTrainingConfig, metrics: dict[str, float], height: int) -> list[dict[str, Any]]:
    """Return the card's rows for people of one height; each names the command that gives the number again."""
    suffix = "" if height == config.val_height else f"_at_{height}"
    dataset = (
        f"{config.data_name or config.data.name}, last {config.holdout_people} people by id, each crop alone on a "
        f"canvas, {height} pixels tall, {metrics['queries']:.0f} queries, each against all other crops but those of "
        f"the same person and camera; chose the checkpoint at {config.val_height} pixels, trained on none"
    )
    command = f"stride32 eval embedder {config.name} --data DIR"
    if config.holdout_people != HOLDOUT_PEOPLE:
        command += f" --holdout {config.holdout_people}"
    if height != CROP_HEIGHT:
        command += f" --height {height}"
    return [
        {"name": f"{name}{suffix}", "value": round(metrics[name], 4), "dataset": dataset, "command": command}
        for name in CARD_METRICS
    ]
