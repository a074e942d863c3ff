"""The end of a detector's training run: weights and a card with what they are, come from and score."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from vision.backbones.registry import build_backbone
from vision.card import ModelCard, write_card
from vision.detection.architecture import build_network
from vision.detection.config import DetectorConfig
from vision.detection.registry import load_detector
from vision.evaluation.detection import coco_metrics, detect_images
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.training_data import is_held_out, load_validation_images
from vision.training.export import save_weights, training_command
from vision.training.report.answers import save_detections
from vision.training.run import write_metrics
from vision.training.tasks.detector import EVALUATION_CONF, architecture_of

log = logging.getLogger(__name__)
FAMILY_NAMES = {"fpn-lite": "FPN-lite", "retinanet": "RetinaNet", "ssd": "SSD", "ssdlite": "SSDLite"}
CARD_METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "f1", "f1_conf", "f1_cross")


def export_detector(config: DetectorTrainingConfig, class_names: tuple[str, ...]) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder.

    The metrics in the card are those of the exported model, measured as ``stride32 eval detector`` does.
    """
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    card = _card(config, class_names, folder, file_sha256(weights_path))
    settings = DetectorConfig(conf=EVALUATION_CONF, max_det=100)
    detector = load_detector(card, settings, RuntimeConfig(device="cpu", threads=config.threads))
    images = load_validation_images(config, class_names)
    found = detect_images(detector, images)
    metrics = coco_metrics(images, found, class_names)
    write_metrics(config.out, metrics)
    write_card(folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, metrics, len(images)))))
    save_detections(config.out, images, found, class_names)
    log.info("exported %s: %s", folder, " ".join(f"{name}={value:.4f}" for name, value in metrics.items()))
    return folder


def _card(config: DetectorTrainingConfig, class_names: tuple[str, ...], folder: Path, sha256: str) -> ModelCard:
    architecture, family = architecture_of(config), FAMILY_NAMES[config.family]
    network = build_network(architecture, build_backbone(config.backbone), num_classes=len(class_names))
    normalization = network.backbone.normalization
    return ModelCard(
        name=config.name,
        kind="detector",
        summary=f"Boxes of {' '.join(class_names[:4])}: {family} anchor detector on {config.backbone}",
        folder=folder,
        architecture=architecture.to_dict(),
        preprocess={
            "long_side": config.long_side,
            "mean": list(normalization.mean),
            "std": list(normalization.std),
            "multiple": network.multiple,
        },
        labels=class_names,
        sha256=sha256,
        licence="Apache-2.0",
        data=(
            {"name": config.data_name or _data_label(config.train_data), "terms": config.data_terms or "not stated"},
        ),
        training={
            "command": training_command(
                f"stride32 train detector --train-data TRAIN{' --val-data VAL' if config.val_data else ''} --out DIR"
                + (" --set negatives_data=NEGATIVES" if config.negatives_data else ""),
                config,
                in_start=frozenset({"train_data", "val_data", "negatives_data"}),
            ),
            "seed": config.seed,
            "epochs": config.epochs,
            "torch": torch.__version__,
        },
    )


def _data_label(path: Path) -> str:
    """Return what the card calls training data without a name: its folder."""
    return path.resolve().name if path.is_dir() else path.resolve().parent.name


def _metric_rows(config: DetectorTrainingConfig, metrics: dict[str, float], count: int) -> list[dict[str, Any]]:
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
