"""The end of every detector's training run: the exported model measured as ``stride32 eval detector`` does, and the
rows of its card that all kinds of detector share."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from vision.card import ModelCard, write_card
from vision.detection.config import EVALUATION_CONF, EVALUATION_MAX_DET, DetectorConfig
from vision.detection.registry import load_detector
from vision.evaluation.detection import coco_metrics, detect_images
from vision.runtime.config import RuntimeConfig
from vision.training.config import BoxTrainingConfig
from vision.training.datasets.training_data import is_held_out, load_validation_images
from vision.training.export import training_command
from vision.training.report.answers import save_detections
from vision.training.run import write_metrics

log = logging.getLogger(__name__)
CARD_METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "f1", "f1_conf", "f1_cross")


def finish_export(config: BoxTrainingConfig, card: ModelCard) -> Path:
    """Measure the exported model of ``card``, whose weights lie in its folder, and write card, metrics and answers.

    Returns the model folder.
    """
    settings = DetectorConfig(conf=EVALUATION_CONF, max_det=EVALUATION_MAX_DET)
    detector = load_detector(card, settings, RuntimeConfig(device="cpu", threads=config.threads))
    images = load_validation_images(config, card.labels)
    found = detect_images(detector, images)
    metrics = coco_metrics(images, found, card.labels)
    write_metrics(config.out, metrics)
    write_card(card.folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, metrics, len(images)))))
    save_detections(config.out, images, found, card.labels)
    log.info("exported %s: %s", card.folder, " ".join(f"{name}={value:.4f}" for name, value in metrics.items()))
    return card.folder


def data_rows(config: BoxTrainingConfig) -> tuple[dict[str, Any], ...]:
    """Return what the card says of the training data."""
    return ({"name": config.data_name or _data_label(config.train_data), "terms": config.data_terms or "not stated"},)


def training_rows(kind: str, config: BoxTrainingConfig, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what the card says of the training; ``without`` are fields that change no weight."""
    start = f"stride32 train {kind} --train-data TRAIN{' --val-data VAL' if config.val_data else ''} --out DIR"
    given = frozenset({"train_data", "val_data", "negatives_data"})
    return {
        "command": training_command(
            start + (" --set negatives_data=NEGATIVES" if config.negatives_data else ""),
            config,
            in_start=given | without,
        ),
        "seed": config.seed,
        "epochs": config.epochs,
        "torch": torch.__version__,
    }


def _data_label(path: Path) -> str:
    """Return what the card calls training data without a name: its folder."""
    return path.resolve().name if path.is_dir() else path.resolve().parent.name


def _metric_rows(config: BoxTrainingConfig, metrics: dict[str, float], count: int) -> list[dict[str, Any]]:
    """Return the card's rows; each names the command that gives the number again."""
    data, chosen = config.val_data or config.train_data, "chose the checkpoint, trained on none"
    dataset = f"{data.resolve().parent.name}/{data.resolve().name}, {count} pictures; {chosen}"
    command = f"stride32 eval detector {config.name} --gt {data.name}"
    if is_held_out(config):
        # No file of the user's holds these pictures alone; the run folder does.
        dataset = f"{count} pictures held out of {_data_label(data)}; {chosen}"
        command = f"stride32 eval detector {config.name} --gt validation/ground_truth.json"
    return [
        {"name": name, "value": round(metrics[name], 4), "dataset": dataset, "command": command}
        for name in CARD_METRICS
    ]
