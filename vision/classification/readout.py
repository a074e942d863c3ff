"""What a classifier's logits mean: probabilities of classes that exclude each other or not, or a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np

from vision.classification.config import Task
from vision.errors import ModelError, closest_hint
from vision.types import Classification, FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Readout:
    """The meaning of a network's outputs.

    Attributes:
        task: "multiclass" (softmax), "multilabel" (a sigmoid for each class) or "regression" (one number).
        class_names: in the order of the outputs; empty for a regression.
        threshold: lowest probability at which a multi-label class is assigned.
        unit: of a regression's value.
        mean, scale: a regression's value is ``mean + scale * output``: networks learn best around 0 with spread 1.
    """

    task: Task
    class_names: tuple[str, ...] = ()
    threshold: float = 0.5
    unit: str = ""
    mean: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ModelError(
                f"a classifier's task must be one of {', '.join(get_args(Task))}, got {self.task!r}"
                f"{closest_hint(self.task, get_args(Task))}; correct architecture.task in the card"
            )
        if (self.task == "regression") != (not self.class_names):
            raise ModelError(
                f"a {self.task} model must have {'no labels' if self.task == 'regression' else 'labels'}, got "
                f"{len(self.class_names)}; correct labels in the card"
            )

    @property
    def outputs(self) -> int:
        """Number K of the network's outputs."""
        return len(self.class_names) or 1

    @classmethod
    def from_card(cls, architecture: Mapping[str, Any], labels: Sequence[str]) -> Self:
        """Return the readout that ``to_card`` wrote into a card's architecture."""
        return cls(
            task=architecture["task"],
            class_names=tuple(labels),
            threshold=float(architecture.get("threshold", 0.5)),
            unit=architecture.get("unit", ""),
            mean=float(architecture.get("value_mean", 0.0)),
            scale=float(architecture.get("value_scale", 1.0)),
        )

    def to_card(self) -> dict[str, Any]:
        """Return the keys of the card's ``[architecture]`` that tell the meaning; the labels have a place of their
        own."""
        extra: dict[Task, dict[str, Any]] = {
            "multiclass": {},
            "multilabel": {"threshold": self.threshold},
            "regression": {"unit": self.unit, "value_mean": self.mean, "value_scale": self.scale},
        }
        return {"task": self.task, **extra[self.task]}

    def classification(self, outputs: FloatArray) -> Classification:
        """Return the result for one frame's probabilities [K] or value [1]; equal scores keep the labels' order."""
        if self.task == "regression":
            return Classification(
                np.zeros(0, np.int64), np.zeros(0, np.float32), value=float(outputs[0]), unit=self.unit
            )
        order = np.argsort(-outputs, kind="stable")
        scores = outputs[order]
        assigned = 1 if self.task == "multiclass" else int((scores >= self.threshold).sum())
        return Classification(order, scores, tuple(self.class_names[label] for label in order.tolist()), assigned)


def read_logits(logits: FloatArray, readout: Readout) -> FloatArray:
    """Return probabilities [B, K], or values [B, 1] of a regression, of the network's outputs [B, K].

    >>> read_logits(np.float32([[0, 0]]), Readout(task="multiclass", class_names=("a", "b"))).tolist()
    [[0.5, 0.5]]
    """
    if readout.task == "regression":
        return (readout.mean + readout.scale * logits).astype(np.float32)
    if readout.task == "multilabel":
        # exp only of numbers <= 0, which cannot overflow.
        small = np.exp(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
