"""The end of an embedder's training run: weights, and a card with what they are, come from and score."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vision.backbones.registry import build_backbone
from vision.card import ModelCard, write_card
from vision.evaluation.reid import embed_folder, measure_crops
from vision.reid.embedder import load_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.training.checkpoints import BEST, LAST
from vision.training.datasets.crops import read_crop_folder
from vision.training.embedder_config import HOLDOUT_PEOPLE, EmbedderTrainingConfig
from vision.training.export import save_weights, training_command
from vision.training.report.answers import EmbedderAnswers, save_embeddings
from vision.training.run import write_metrics

log = logging.getLogger(__name__)
CARD_METRICS = ("rank1", "rank5", "mAP", "rank1_single", "mAP_single")


def export_embedder(config: EmbedderTrainingConfig) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best or last checkpoint; returns that model folder.

    The metrics in the card are those of the exported model, measured as ``stride32 eval embedder`` does.
    """
    folder = config.out / config.name
    checkpoint = {"best": BEST, "last": LAST}[config.export_checkpoint]
    weights_path = save_weights(config.out, folder, checkpoint=checkpoint)
    card = _card(config, folder, file_sha256(weights_path))
    embedder = load_embedder(card, RuntimeConfig(device="cpu", threads=config.threads))
    cameras = other_cameras(config.data, config.cameras)
    embeddings, crops = embed_folder(
        embedder, config.data, holdout=config.holdout_people, exclude=config.exclude_people, cameras=cameras
    )
    embedder.close()
    metrics = measure_crops(embeddings, crops)
    write_metrics(config.out, metrics)
    part = "chose the checkpoint, trained on none" if config.export_checkpoint == "best" else "no part in training"
    write_card(folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, metrics, cameras, part=part))))
    save_embeddings(config.out, EmbedderAnswers(embeddings, crops.person_ids, crops.camera_ids, crops.paths))
    log.info("exported %s: %s", folder, " ".join(f"{name}={value:.4f}" for name, value in metrics.items()))
    return folder


def score_rows(card: ModelCard, data: Path, *, holdout: int) -> list[dict[str, Any]]:
    """Return the card's rows for an average of embedders, measured on the people that its parts held out.

    Args:
        card: the embedder.
        data: folder of crops, see ``vision.training.datasets.crops``.
        holdout: ``holdout_people`` of the parts: the last ones by id.
    """
    embedder = load_embedder(card, RuntimeConfig(device="cpu"))
    metrics = measure_crops(*embed_folder(embedder, data, holdout=holdout))
    embedder.close()
    name = str(card.data[0]["name"]) if card.data else data.name
    config = EmbedderTrainingConfig(data=data, name=card.name, data_name=name, holdout_people=holdout)
    return _metric_rows(config, metrics, (), part="held out by the parts, whose checkpoints they may have chosen")


def other_cameras(data: Path, cameras: Sequence[int]) -> tuple[int, ...]:
    """Return the cameras that a run on ``cameras`` alone validates on: the others of the folder, or () for all."""
    if not cameras:
        return ()
    return tuple(sorted({file.camera for file in read_crop_folder(data)} - set(cameras)))


def _card(config: EmbedderTrainingConfig, folder: Path, sha256: str) -> ModelCard:
    normalization = build_backbone(config.backbone).normalization
    return ModelCard(
        name=config.name,
        kind="embedder",
        summary=f"Appearance of people, {config.dim} dimensions: {config.backbone} cut after stride {config.stride}",
        folder=folder,
        architecture={
            "backbone": config.backbone,
            "stride": config.stride,
            "dim": config.dim,
            **({"stripes": config.stripes} if config.stripes > 1 else {}),
            **({"dense": True} if config.dense else {}),
        },
        preprocess={
            "size_hw": list(config.size_hw),
            "mean": list(normalization.mean),
            "std": list(normalization.std),
        },
        sha256=sha256,
        licence="Apache-2.0",
        data=tuple(_data_rows(config)),
        training={
            "command": training_command(
                "stride32 train embedder --data DIR --out DIR", config, in_start=frozenset({"data"})
            ),
            "seed": config.seed,
            "epochs": config.epochs,
            "torch": torch.__version__,
        },
    )


def _data_rows(config: EmbedderTrainingConfig) -> list[dict[str, str]]:
    """Return what the weights were made from: the crops, and what the starting weights had seen."""
    rows = [{"name": config.data_name or config.data.name, "terms": config.data_terms or "not stated"}]
    if config.pretrained:
        rows.append(
            {"name": f"ImageNet-1k, through the published weights of {config.backbone}", "terms": "research use"}
        )
    return rows


def _metric_rows(
    config: EmbedderTrainingConfig, metrics: dict[str, float], cameras: tuple[int, ...], *, part: str
) -> list[dict[str, Any]]:
    """Return the card's rows, which say what ``part`` the people had; each names the command that gives the number."""
    which = f"last {config.holdout_people} people by id"
    if config.exclude_people:
        which += f" before the last {config.exclude_people}"
    if cameras:
        which += f", cameras {', '.join(map(str, cameras))} (trained on the others)"
    dataset = (
        f"{config.data_name or config.data.name}, {which}, {metrics['queries']:.0f} queries, each against all other "
        f"crops but those of the same person and camera; single: one query a person and camera; {part}"
    )
    command = f"stride32 eval embedder {config.name} --data DIR"
    if config.holdout_people != HOLDOUT_PEOPLE:
        command += f" --holdout {config.holdout_people}"
    if config.exclude_people:
        command += f" --exclude {config.exclude_people}"
    if cameras:
        command += f" --cameras {','.join(map(str, cameras))}"
    return [
        {"name": name, "value": round(metrics[name], 4), "dataset": dataset, "command": command}
        for name in CARD_METRICS
    ]
