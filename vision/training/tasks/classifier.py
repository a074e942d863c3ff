"""One training step of a classifier, and its validation by accuracy, mean average precision or mean error."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from vision.backbones.interface import Classifier
from vision.backbones.registry import build_classifier
from vision.classification.readout import Readout, read_logits
from vision.evaluation.classification import CLASS_F1, measure
from vision.training.classifier_config import ClassifierTrainingConfig, RegressionLoss
from vision.training.frozen_trunk import FrozenTrunk
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process
from vision.types import FloatArray

# What checkpoints are chosen by, and whether it is better high or low.
MONITORS: dict[str, tuple[str, Literal["max", "min"]]] = {
    "multiclass": ("val_accuracy", "max"),
    "multilabel": ("val_mAP", "max"),
    "regression": ("val_mae", "min"),
}


class ClassifierTask(LightningModule):
    """Trains a backbone with its head on any of the three tasks.

    Args:
        config: settings of the run.
        readout: what the outputs mean.
        weights: float [K], the weight of each class in the loss, or None for equal ones.
    """

    def __init__(self, config: ClassifierTrainingConfig, readout: Readout, weights: FloatArray | None = None) -> None:
        super().__init__()
        self.config = config
        self.readout = readout
        self.total_steps = 1.0
        self.network = build_network(config, readout.outputs)
        # Not saved: the data give it again.
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights), persistent=False)
        self._validated: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """On the CPU, hand the frozen stages to ONNX Runtime."""
        backbone = self.network.backbone
        if self.device.type == "cpu" and len(backbone.frozen_stages()):
            backbone.use_trunk(FrozenTrunk(backbone, threads=self.config.threads))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch: images [B, 3, H, W], targets [B, K]."""
        images, targets = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        loss = self.loss(logits, targets)
        logged = {"loss": loss}
        if self.readout.task == "multiclass":
            logged["accuracy"] = (logits.argmax(dim=1) == targets.argmax(dim=1)).float().mean()
        self.log_dict(logged, batch_size=len(images), on_step=True, on_epoch=False)
        return loss

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits [B, K] against targets [B, K] (see ``target_array``)."""
        weights = self.weights if isinstance(self.weights, Tensor) else None
        if self.readout.task == "multiclass":
            smoothing = self.config.label_smoothing
            return F.cross_entropy(logits, targets.argmax(dim=1), weight=weights, label_smoothing=smoothing)
        if self.readout.task == "multilabel":
            return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
        return regression_loss(
            logits, (targets - self.readout.mean) / self.readout.scale, kind=self.config.regression_loss
        )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        """Classify one batch with the averaged weights.

        Here and not at the end of the epoch: by then the averaging callback has put the raw weights back.
        """
        images, targets = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        self._validated.append((logits.cpu(), targets.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure loss and metrics over all validation pictures."""
        logits, targets = (torch.cat(column) for column in zip(*self._validated, strict=True))
        self._validated.clear()
        scores = measure(read_logits(logits.numpy(), self.readout), targets.numpy(), self.readout)
        metrics = {name: value for name, value in scores.metrics.items() if not name.startswith(CLASS_F1)}
        del metrics["pictures"]
        metrics["loss"] = float(self.loss(logits.to(self.device), targets.to(self.device)))
        # The first process's weights and statistics are those that are saved.
        self.log_dict({f"val_{name}": value for name, value in from_first_process(metrics).items()})

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule; a pretrained backbone moves slower than the new head."""
        factor = self.config.backbone_lr_factor if self.config.pretrained else 1.0
        return plan_optimization(self.config, {factor: self.network.backbone, 1.0: self.network}, self)


def build_network(config: ClassifierTrainingConfig, outputs: int) -> Classifier:
    """Return the network that a training configuration describes, frozen as it says."""
    network = build_classifier(config.backbone, outputs, pretrained=config.pretrained, dropout=config.dropout)
    network.backbone.freeze(config.freeze_stride)
    network.to(memory_format=torch.channels_last)
    return network


def regression_loss(outputs: Tensor, targets: Tensor, *, kind: RegressionLoss) -> Tensor:
    """Return the mean loss of normalised values; "huber" turns from square to absolute at 1 standard deviation."""
    if kind == "mse":
        return F.mse_loss(outputs, targets)
    if kind == "mae":
        return F.l1_loss(outputs, targets)
    return F.huber_loss(outputs, targets)


def balanced_weights(targets: FloatArray, *, several: bool) -> FloatArray:
    """Return the weight float32 [K] of each class, inversely to its number of pictures.

    Args:
        targets: one-hot or multi-hot [N, K].
        several: for labels that do not exclude each other, the weight of a label's presence against its absence, at
            most 100 to 1; else weights whose mean over the pictures is 1.
    """
    counts = np.maximum(targets.sum(axis=0), 1)
    if several:
        # A label of one picture in ten thousand would make steps of its own.
        return np.asarray(np.clip((len(targets) - counts) / counts, 0.01, 100), np.float32)
    return np.asarray(len(targets) / (counts * targets.shape[1]), np.float32)
