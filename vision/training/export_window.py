"""The card of a sliding-window detector at the end of its training run."""

from __future__ import annotations

from pathlib import Path

from vision.backbones.registry import build_backbone
from vision.card import ModelCard
from vision.detection.window import FAMILY
from vision.store import file_sha256
from vision.training.export import save_weights
from vision.training.export_boxes import data_rows, finish_export, training_rows
from vision.training.tasks.window import architecture_of
from vision.training.window_config import WindowTrainingConfig


def export_window(config: WindowTrainingConfig, class_names: tuple[str, ...]) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder."""
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    normalization = build_backbone(config.backbone).normalization
    card = ModelCard(
        name=config.name,
        kind="detector",
        summary=f"Boxes of {', '.join(class_names[:4])}: sliding window over an image pyramid on {config.backbone}",
        folder=folder,
        architecture={"family": FAMILY, **architecture_of(config).to_dict()},
        preprocess={
            "long_side": config.long_side,
            "scales_per_octave": config.scales_per_octave,
            "mean": list(normalization.mean),
            "std": list(normalization.std),
        },
        labels=class_names,
        sha256=file_sha256(weights_path),
        licence="Apache-2.0",
        data=data_rows(config),
        training=training_rows("window", config, without=frozenset({"cache_mb"})),
    )
    return finish_export(config, card)
