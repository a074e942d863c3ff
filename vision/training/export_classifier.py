"""The end of a classifier's training run: weights, and a card with what they are, come from and score."""

from __future__ import annotations

import csv
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from vision.card import ModelCard, write_card
from vision.classification.classifier import load_classifier
from vision.classification.config import ClassifierConfig
from vision.classification.input import InputSpec
from vision.classification.readout import Readout
from vision.evaluation.classification import CLASS_F1, Scores, best_threshold, measure, predict_pictures
from vision.runtime.config import RuntimeConfig
from vision.store import file_sha256
from vision.training.classifier_config import ClassifierTrainingConfig
from vision.training.datasets.label_files import find_parts
from vision.training.datasets.labels import load_measured_pictures
from vision.training.export import save_weights, training_command
from vision.training.report.answers import ClassifierAnswers, save_outputs
from vision.training.run import write_metrics

log = logging.getLogger(__name__)
CONFUSION_FILE = "confusion.csv"
CARD_METRICS = {
    "multiclass": ("accuracy", "top5", "macro_f1"),
    "multilabel": ("mAP", "f1", "macro_f1"),
    "regression": ("mae", "rmse", "r2"),
}


def export_classifier(config: ClassifierTrainingConfig, readout: Readout, spec: InputSpec) -> Path:
    """Write ``out/NAME/`` with card and weights of the run's best checkpoint; returns that model folder.

    A multi-label model gets the threshold with the best F1 on the validation pictures. The metrics in the card are
    those of the exported model, measured as ``stride32 eval classifier`` does.
    """
    folder = config.out / config.name
    weights_path = save_weights(config.out, folder)
    card = _card(config, readout, spec, folder, file_sha256(weights_path))
    runtime = RuntimeConfig(device="cpu", threads=config.threads)
    classifier = load_classifier(card, ClassifierConfig(top=0), runtime)
    data, holdout = measured_data(config)
    pictures = load_measured_pictures(data, readout.task, readout.class_names, holdout=holdout)
    outputs, targets = predict_pictures(classifier, pictures)
    classifier.close()
    if readout.task == "multilabel":
        # Rounded to the digits that the card shows, and before measuring: the card's threshold gives the card's F1.
        readout = dataclasses.replace(readout, threshold=round(best_threshold(outputs, targets), 4))
        card = _card(config, readout, spec, folder, card.sha256)
    scores = measure(outputs, targets, readout)
    write_metrics(config.out, scores.metrics)
    if scores.confusion is not None:
        _write_confusion(config.out / CONFUSION_FILE, scores, readout)
    write_card(folder, dataclasses.replace(card, metrics=tuple(_metric_rows(config, scores, holdout))))
    save_outputs(config.out, ClassifierAnswers(outputs, targets, tuple(picture.path for picture in pictures)))
    shown = " ".join(f"{name}={value:.4f}" for name, value in scores.metrics.items() if not name.startswith(CLASS_F1))
    log.info("exported %s: %s", folder, shown)
    return folder


def measured_data(config: ClassifierTrainingConfig) -> tuple[Path, float]:
    """Return the data that a run validates on and the share held out of it, as ``evaluate_classifier`` takes them."""
    if config.val_data is not None:
        return config.val_data, 0.0
    return config.data, 0.0 if find_parts(config.data)[1] is not None else config.val_fraction


def _card(config: ClassifierTrainingConfig, readout: Readout, spec: InputSpec, folder: Path, sha256: str) -> ModelCard:
    start = "stride32 train classifier --data DATA --out DIR" + (" --val-data VAL" if config.val_data else "")
    return ModelCard(
        name=config.name,
        kind="classifier",
        summary=_summary(config, readout),
        folder=folder,
        architecture={"backbone": config.backbone, **readout.to_card()},
        preprocess=spec.to_card(),
        labels=readout.class_names,
        sha256=sha256,
        licence="Apache-2.0",
        data=tuple(_data_rows(config)),
        training={
            "command": training_command(start, config, in_start=frozenset({"data", "val_data"})),
            "seed": config.seed,
            "epochs": config.epochs,
            "torch": torch.__version__,
        },
    )


def _summary(config: ClassifierTrainingConfig, readout: Readout) -> str:
    if readout.task == "regression":
        return f"A value{f' in {readout.unit}' if readout.unit else ''} of a whole picture: {config.backbone}"
    names = ", ".join(readout.class_names[:4]) + (", ..." if len(readout.class_names) > 4 else "")
    what = "One of" if readout.task == "multiclass" else "Any of"
    return f"{what} {len(readout.class_names)} classes of whole pictures ({names}): {config.backbone}"


def _data_rows(config: ClassifierTrainingConfig) -> list[dict[str, str]]:
    """Return what the weights were made from: the pictures, and what the starting weights had seen."""
    rows = [{"name": config.data_name or config.data.name, "terms": config.data_terms or "not stated"}]
    if config.pretrained:
        rows.append(
            {"name": f"ImageNet-1k, through the published weights of {config.backbone}", "terms": "research use"}
        )
    return rows


def _metric_rows(config: ClassifierTrainingConfig, scores: Scores, holdout: float) -> list[dict[str, Any]]:
    """Return the card's rows; each names the command that gives the number again."""
    part = f"{holdout:g} held out by file name" if holdout else "validation part"
    place = config.val_data or config.data
    dataset = (
        f"{config.data_name or place.name}, {part}, {scores.metrics['pictures']:.0f} pictures; chose the checkpoint, "
        "trained on none"
    )
    given = "VAL" if config.val_data else "DATA"
    command = f"stride32 eval classifier {config.name} --data {given}" + (f" --holdout {holdout:g}" * bool(holdout))
    return [
        {"name": name, "value": round(scores.metrics[name], 4), "dataset": dataset, "command": command}
        for name in CARD_METRICS[config.task]
    ]


def _write_confusion(path: Path, scores: Scores, readout: Readout) -> None:
    """Write the confusion matrix with class names: a row a true class, a column a predicted one."""
    assert scores.confusion is not None
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true \\ predicted", *readout.class_names])
        for name, row in zip(readout.class_names, scores.confusion.tolist(), strict=True):
            writer.writerow([name, *row])
