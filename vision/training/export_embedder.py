"""The end of an embedder's training run: half-precision weights, and a card with what they are, come from and score."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vision.card import WEIGHTS_FILE, ModelCard, write_card
from vision.evaluation.reid import evaluate_reid
from vision.reid.embedder import load_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.training.embedder_config import HOLDOUT_PEOPLE, EmbedderTrainingConfig
from vision.training.run import best_weights, write_metrics
from vision.training.tasks.embedder import build_network

log = logging.getLogger(__name__)


def export_embedder(config: EmbedderTrainingConfig) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder.

    The metrics in the card are those of the exported model, measured as ``stride32 eval embedder`` does.
    """
    folder = config.out / config.name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in best_weights(config.out).items()
    }
    save_file(weights, folder / WEIGHTS_FILE)
    card = _card(config, folder)
    embedder = load_embedder(card, RuntimeConfig(device="cpu", threads=config.threads))
    metrics = evaluate_reid(embedder, config.data, holdout=config.holdout_people)
    embedder.close()
    write_metrics(config.out, metrics)
    write_card(folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, metrics))))
    log.info("exported %s: %s", folder, " ".join(f"{name}={value:.4f}" for name, value in metrics.items()))
    return folder


def _card(config: EmbedderTrainingConfig, folder: Path) -> ModelCard:
    normalization = build_network(dataclasses.replace(config, pretrained=False)).backbone.normalization
    return ModelCard(
        name=config.name,
        kind="embedder",
        summary=f"Appearance of people, {config.dim} dimensions: {config.backbone} cut after stride {config.stride}",
        folder=folder,
        architecture={"backbone": config.backbone, "stride": config.stride, "dim": config.dim},
        preprocess={
            "size_hw": list(config.size_hw),
            "mean": list(normalization.mean),
            "std": list(normalization.std),
        },
        sha256=file_sha256(folder / WEIGHTS_FILE),
        licence="Apache-2.0",
        data=({"name": config.data_name or config.data.name, "terms": config.data_terms or "not stated"},),
        training={
            "command": training_command(config),
            "seed": config.seed,
            "epochs": config.epochs,
            "held_out": f"the last {config.holdout_people} people by id; training saw none of their crops",
            "torch": torch.__version__,
        },
    )


def _metric_rows(config: EmbedderTrainingConfig, metrics: dict[str, float]) -> list[dict[str, Any]]:
    """Return the card's rows; each names the command that gives the number again."""
    holdout = "" if config.holdout_people == HOLDOUT_PEOPLE else f" --holdout {config.holdout_people}"
    dataset = (
        f"{config.data_name or config.data.name}, the last {config.holdout_people} people by id, each of "
        f"{metrics['queries']:.0f} crops searched among the others, same person and camera left out"
    )
    command = f"stride32 eval embedder {config.name} --data DIR{holdout}"
    return [
        {"name": name, "value": round(metrics[name], 4), "dataset": dataset, "command": command}
        for name in ("rank1", "rank5", "mAP")
    ]


def training_command(config: EmbedderTrainingConfig) -> str:
    """Return the command line that repeats a run: every setting that is not the default, folders as placeholders."""
    words = ["stride32 train embedder --data DIR --out DIR"]
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        # What the card says of the data and how the run is resumed change no weight.
        if item.name in ("data", "out", "resume", "data_name", "data_terms") or value == item.default:
            continue
        text = ",".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
        words.append(f"--set {item.name}={text.lower() if isinstance(value, bool) else text}")
    return " ".join(words)
