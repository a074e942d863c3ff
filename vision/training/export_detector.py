"""The card of an anchor detector at the end of its training run."""

from __future__ import annotations

from pathlib import Path

from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.detection.architecture import build_network
from vision.store import file_sha256
from vision.training.config import DetectorTrainingConfig
from vision.training.export import save_weights
from vision.training.export_boxes import data_rows, finish_export, training_rows
from vision.training.tasks.detector import architecture_of

FAMILY_NAMES = {"fpn-lite": "FPN-lite", "retinanet": "RetinaNet", "ssd": "SSD", "ssdlite": "SSDLite"}


def export_detector(config: DetectorTrainingConfig, class_names: tuple[str, ...]) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder."""
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    architecture = architecture_of(config)
    network = build_network(architecture, build_backbone(config.backbone), num_classes=len(class_names))
    normalization = network.backbone.normalization
    card = ModelCard(
        name=config.name,
        kind="detector",
        summary=f"Boxes of {', '.join(class_names[:4])}: {FAMILY_NAMES[config.family]} anchor detector on "
        f"{config.backbone}",
        folder=folder,
        architecture=architecture.to_dict(),
        preprocess={
            "long_side": config.long_side,
            "mean": list(normalization.mean),
            "std": list(normalization.std),
            "multiple": network.multiple,
        },
        labels=class_names,
        sha256=file_sha256(weights_path),
        licence="Apache-2.0",
        data=data_rows(config),
        training=training_rows("detector", config),
    )
    return finish_export(config, card)
