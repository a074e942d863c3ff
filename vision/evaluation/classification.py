"""How well a classifier does: accuracy and F1 of classes, mean average precision of labels, errors of values."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics.functional.classification import multilabel_average_precision

from vision.classification.config import Task
from vision.classification.readout import Readout
from vision.errors import InvalidInputError
from vision.types import FloatArray, Frame, IntArray

if TYPE_CHECKING:
    from vision.classification.classifier import EngineClassifier
    from vision.training.datasets.label_checks import LabelledPicture

# Prefix of the F1 of one class among the metrics.
CLASS_F1 = "f1/"
CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The measured quality of a classifier.

    Attributes:
        metrics: name -> number; those of a class have the class name behind CLASS_F1.
        confusion: int64 [K, K], rows are true classes and columns predicted ones; None unless classes exclude each
            other.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    confusion: IntArray | None = None


def measure(outputs: FloatArray, targets: FloatArray, readout: Readout) -> Scores:
    """Return the metrics of a task.

    Args:
        outputs: probabilities [N, K], or values [N, 1] of a regression.
        targets: one-hot or multi-hot [N, K], or values [N, 1].
        readout: the task, the class names and the threshold.

    Raises:
        InvalidInputError: the two differ in shape or are empty.
    """
    if outputs.shape != targets.shape or not len(outputs):
        raise InvalidInputError(
            f"outputs and targets must be [N, K] alike with N >= 1, got {outputs.shape} and {targets.shape}; "
            "measure the classes that the model knows"
        )
    by_task: dict[Task, Any] = {"multiclass": _multiclass, "multilabel": _multilabel, "regression": _regression}
    scores: Scores = by_task[readout.task](outputs, targets, readout)
    scores.metrics["pictures"] = float(len(outputs))
    return scores


def evaluate_classifier(classifier: EngineClassifier, data: Path, *, holdout: float = 0.0) -> Scores:
    """Return the metrics of a classifier on labelled pictures, the validation part of ``data`` if it has one.

    Args:
        classifier: what ``load_classifier`` returns.
        data: as for training (docs/classification.md).
        holdout: with a share in (0, 1), only the pictures that a training with this ``val_fraction`` holds out.
    """
    outputs, targets = predict(classifier, data, holdout=holdout)
    return measure(outputs, targets, classifier.readout)


def predict(classifier: EngineClassifier, data: Path, *, holdout: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Return outputs and targets, both [N, K], of the pictures that ``evaluate_classifier`` measures."""
    from vision.training.datasets.labels import load_measured_pictures

    pictures = load_measured_pictures(data, classifier.readout.task, classifier.class_names, holdout=holdout)
    return predict_pictures(classifier, pictures)


def predict_pictures(
    classifier: EngineClassifier, pictures: Sequence[LabelledPicture]
) -> tuple[FloatArray, FloatArray]:
    """Return outputs and targets, both [N, K], of labelled pictures."""
    from vision.training.datasets.labels import target_array
    from vision.training.datasets.pictures import load_rgb

    outputs = [
        classifier.outputs([Frame(load_rgb(picture.path)) for picture in pictures[start : start + CHUNK]])
        for start in range(0, len(pictures), CHUNK)
    ]
    return np.concatenate(outputs), target_array(pictures, classifier.readout.task, len(classifier.class_names))


def best_threshold(outputs: FloatArray, targets: FloatArray) -> float:
    """Return the probability at which assigning every label of at least it gives the best F1 over all labels.

    Args:
        outputs, targets: [N, K]; 0.5 when no label is true.
    """
    scores, truths = outputs.ravel(), targets.ravel() > 0.5
    if not truths.any():
        return 0.5
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truths[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + truths.sum())
    # Equal scores are all assigned or none: only the last of them is a choice.
    last = np.append(np.diff(scores[order]) != 0, True)
    best = int(np.argmax(np.where(last, f1, -1)))
    return float(scores[order][best])


def confusion_matrix(true: IntArray, predicted: IntArray, count: int) -> IntArray:
    """Return int64 [count, count]: row i, column j counts pictures of class i that were taken for class j."""
    return np.bincount(true * count + predicted, minlength=count * count).reshape(count, count).astype(np.int64)


def _multiclass(outputs: FloatArray, targets: FloatArray, readout: Readout) -> Scores:
    true = targets.argmax(axis=1)
    # Ties go to the first label, as at inference.
    ranked = np.argsort(-outputs, axis=1, kind="stable")
    confusion = confusion_matrix(true, ranked[:, 0], outputs.shape[1])
    f1 = _f1(np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))
    metrics = {
        "accuracy": float((ranked[:, 0] == true).mean()),
        "top5": float((ranked[:, :5] == true[:, None]).any(axis=1).mean()),
        **_mean_f1(f1, confusion.sum(axis=1), readout.class_names),
    }
    return Scores(metrics, confusion)


def _multilabel(outputs: FloatArray, targets: FloatArray, readout: Readout) -> Scores:
    truths, assigned = targets > 0.5, outputs >= readout.threshold
    f1 = _f1((truths & assigned).sum(axis=0), assigned.sum(axis=0), truths.sum(axis=0))
    metrics = {
        "mAP": mean_average_precision(outputs, truths),
        "f1": float(_f1((truths & assigned).sum(), assigned.sum(), truths.sum())),
        "threshold": readout.threshold,
        **_mean_f1(f1, truths.sum(axis=0), readout.class_names),
    }
    return Scores(metrics)


def mean_average_precision(outputs: FloatArray, truths: npt.NDArray[np.bool_]) -> float:
    """Return the mean over labels [K] of the area below precision and recall; labels that never occur are left out."""
    present = truths.any(axis=0)
    if not present.any():
        return 0.0
    columns = torch.from_numpy(outputs[:, present]), torch.from_numpy(truths[:, present].astype(np.int64))
    if present.sum() == 1:
        # torchmetrics takes two labels or more; a copy of the one has the same mean.
        columns = columns[0].expand(-1, 2), columns[1].expand(-1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notices speak of labels without positives, which are left out above
        return float(multilabel_average_precision(*columns, num_labels=columns[0].shape[1], average="macro"))


def _regression(outputs: FloatArray, targets: FloatArray, readout: Readout) -> Scores:
    errors = outputs[:, 0].astype(np.float64) - targets[:, 0]
    spread = float(np.square(targets[:, 0] - targets[:, 0].mean(dtype=np.float64)).sum())
    metrics = {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(np.square(errors).mean())),
        # Without spread there is nothing that could be explained.
        "r2": 1 - float(np.square(errors).sum()) / spread if spread else 0.0,
    }
    return Scores(metrics)


def _f1(hits: Any, predicted: Any, true: Any) -> Any:
    """Return 2 TP / (predicted + true), 0 where there is neither."""
    return 2 * hits / np.maximum(predicted + true, 1)


def _mean_f1(f1: npt.NDArray[np.float64], true: IntArray, names: Sequence[str]) -> dict[str, float]:
    """Return the mean over the classes that occur, and the F1 of each of these."""
    each = {f"{CLASS_F1}{name}": float(value) for name, value, count in zip(names, f1, true, strict=True) if count}
    return {"macro_f1": float(np.mean(list(each.values()))) if each else 0.0, **each}
