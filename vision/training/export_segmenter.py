"""The end of a segmenter's training run: weights, and a card with what they are, come from and score."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vision.backbones.registry import build_classifier
from vision.card import ModelCard, write_card
from vision.evaluation.segmentation import PER_CLASS
from vision.runtime.config import RuntimeConfig
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.segmenter import load_fcn, padded_multiple
from vision.store import file_sha256, find_model
from vision.training.datasets.mask_layouts import MaskedPicture, find_parts
from vision.training.datasets.masks import MaskFormat
from vision.training.export import save_weights, training_command
from vision.training.report.segmenter_answers import answer_pictures
from vision.training.run import finite, write_metrics
from vision.training.segmenter_config import IGNORE, SegmenterTrainingConfig

log = logging.getLogger(__name__)
CARD_METRICS = ("mIoU", "accuracy", "class_accuracy", "border_f1")


def export_segmenter(config: SegmenterTrainingConfig, form: MaskFormat, val: Sequence[MaskedPicture]) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder.

    The metrics in the card are those of the exported model, measured as ``stride32 eval segmenter`` does.
    """
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    card = _card(config, form, folder, file_sha256(weights_path))
    segmenter = load_fcn(card, SegmenterConfig(), RuntimeConfig(device="cpu", threads=config.threads))
    metrics = finite(answer_pictures(config.out, segmenter, val, form).scores())
    segmenter.close()
    write_metrics(config.out, metrics)
    write_card(folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, metrics))))
    shown = {name: value for name, value in metrics.items() if not name.startswith(PER_CLASS)}
    log.info("exported %s: %s", folder, " ".join(f"{name}={value:.4f}" for name, value in shown.items()))
    return folder


def _card(config: SegmenterTrainingConfig, form: MaskFormat, folder: Path, sha256: str) -> ModelCard:
    backbone = build_classifier(config.backbone).backbone
    return ModelCard(
        name=config.name,
        kind="segmenter",
        summary=f"FCN-{config.stride}s on {config.backbone}: {len(form.class_names)} classes for every pixel",
        folder=folder,
        architecture={
            "family": "fcn",
            "backbone": config.backbone,
            "stride": config.stride,
            **({"width": config.width} if config.width else {}),
            **({"learnable": True} if config.learnable else {}),
        },
        preprocess={
            "long_side": config.long_side,
            "mean": list(backbone.normalization.mean),
            "std": list(backbone.normalization.std),
            "multiple": padded_multiple(backbone),
        },
        labels=form.class_names,
        sha256=sha256,
        licence="Apache-2.0",
        data=tuple(_data_rows(config)),
        training={
            "command": _command(config),
            "seed": config.seed,
            "epochs": config.epochs,
            "torch": torch.__version__,
        },
    )


def _command(config: SegmenterTrainingConfig) -> str:
    start = "stride32 train segmenter --data DATA --out DIR" + (" --val-data VAL" if config.val_data else "")
    if config.palette != "index":
        start += f" --set palette={_palette_name(config)}"
    return training_command(start, config, in_start=frozenset({"data", "val_data", "palette"}))


def _palette_name(config: SegmenterTrainingConfig) -> str:
    """Return the name of a palette, or of its file: the folder is another on the next machine."""
    return Path(config.palette).name


def _data_rows(config: SegmenterTrainingConfig) -> list[dict[str, Any]]:
    """Return what the weights were made from: the pictures, and what the starting weights had seen."""
    rows: list[dict[str, Any]] = [
        {"name": config.data_name or config.data.resolve().name, "terms": config.data_terms or "not stated"}
    ]
    if config.init:
        return rows + [dict(row) for row in find_model(config.init, "segmenter").data if dict(row) not in rows]
    if config.pretrained:
        rows.append(
            {"name": f"ImageNet-1k, through the published weights of {config.backbone}", "terms": "research use"}
        )
    return rows


def _metric_rows(config: SegmenterTrainingConfig, metrics: dict[str, float]) -> list[dict[str, Any]]:
    """Return the card's rows; each names the command that gives the number again."""
    place = config.val_data or config.data
    held_out = config.val_data is None and not find_parts(config.data)[1]
    part = f"{config.val_fraction:g} held out by file name" if held_out else "validation part"
    dataset = (
        f"{config.data_name or place.resolve().name}, {part}, {metrics['pictures']:.0f} pictures; chose the "
        "checkpoint, trained on none"
    )
    command = f"stride32 eval segmenter {config.name} --data {'VAL' if config.val_data else 'DATA'}"
    command += f" --holdout {config.val_fraction:g}" if held_out else ""
    command += f" --palette {_palette_name(config)}" if config.palette != "index" else ""
    command += f" --ignore {config.ignore}" if config.ignore != IGNORE else ""
    return [
        {"name": name, "value": round(metrics[name], 4), "dataset": dataset, "command": command}
        for name in CARD_METRICS
    ]
