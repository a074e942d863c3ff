"""One training step of the embedder, and its validation by finding held-out people again.

Loss: classification of the training people with label smoothing on the feature after the neck, batch-hard triplets on
the one before it (Luo 2019, "Bag of tricks"; Hermans 2017, section 2); circle loss and classifiers of stripes if set.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from vision.backbones.registry import build_backbone
from vision.evaluation.reid import evaluate_embeddings
from vision.reid.network import HEAD_CHANNELS, EmbeddingNetwork
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.frozen_trunk import FrozenTrunk
from vision.training.initial_weights import start_from
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process
from vision.training.tasks.embedder_losses import (
    PeopleClassifier,
    StripeClassifiers,
    batch_hard_triplet_loss,
    circle_loss,
    similarity_loss,
)

__all__ = ["EmbedderTask", "batch_hard_triplet_loss", "build_network"]


class EmbedderTask(LightningModule):
    """Trains an EmbeddingNetwork; ``val_rank1`` is what checkpoints are chosen by."""

    def __init__(self, config: EmbedderTrainingConfig, people: int) -> None:
        super().__init__()
        self.config = config
        self.total_steps = 1.0
        self.network = build_network(config)
        self.classifier = PeopleClassifier(config.dim, people, margin=config.classifier_margin)
        stripes = self.network.stripes if config.stripe_weight else 0
        self.stripe_classifiers = StripeClassifiers(HEAD_CHANNELS, stripes, people) if stripes else None
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """On the CPU, hand the frozen stages to ONNX Runtime."""
        if self.device.type == "cpu" and self.config.freeze_stride:
            self.network.backbone.use_trunk(FrozenTrunk(self.network.backbone, threads=self.config.threads))

    def training_step(self, batch: tuple[Tensor, ...], batch_index: int) -> Tensor:
        """Return the loss of one batch of P people x K crops."""
        crops, person_ids, *targets = batch
        pools = self.network.pools(crops.contiguous(memory_format=torch.channels_last))
        raw, centred = self.network.embed_pools(pools)
        with_margin, logits = self.classifier(F.dropout(centred, self.config.dropout, self.training), person_ids)
        losses = {"loss_class": self._classification_loss(with_margin, person_ids)}
        if self.config.triplet_weight:
            loss = batch_hard_triplet_loss(raw.float(), person_ids, margin=self.config.margin)
            losses["loss_triplet"] = self.config.triplet_weight * loss
        if self.config.circle_weight:
            losses["loss_circle"] = self.config.circle_weight * circle_loss(centred.float(), person_ids)
        if targets:
            losses["loss_teachers"] = self.config.teacher_weight * similarity_loss(centred.float(), targets[0])
        if self.stripe_classifiers is not None:
            each = self.stripe_classifiers(pools[:, 1:])
            repeated = person_ids.repeat_interleave(self.network.stripes)
            losses["loss_stripes"] = self.config.stripe_weight * self._classification_loss(each, repeated)
        accuracy = (logits.argmax(dim=1) == person_ids).float().mean()
        self.log_dict({**losses, "accuracy": accuracy}, batch_size=len(crops), on_step=True, on_epoch=False)
        return torch.stack(list(losses.values())).sum()

    def _classification_loss(self, logits: Tensor, person_ids: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), person_ids, label_smoothing=self.config.label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> None:
        """Embed one batch of held-out crops with the averaged weights.

        Here and not at the end of the epoch: by then the averaging callback has put the raw weights back.
        """
        crops, person_ids, camera_ids = batch
        embeddings = self.network(crops.contiguous(memory_format=torch.channels_last))
        self._validated.append((embeddings.float().cpu(), person_ids.cpu(), camera_ids.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure rank-1, rank-5 and mAP over all held-out crops."""
        embeddings, person_ids, camera_ids = (
            torch.cat(column).numpy() for column in zip(*self._validated, strict=True)
        )
        self._validated.clear()
        # The first process's weights and statistics are those that are saved.
        metrics = from_first_process(evaluate_embeddings(embeddings, person_ids, camera_ids))
        self.log_dict({f"val_{name}": value for name, value in metrics.items() if name != "queries"})

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule; the backbone moves slower."""
        return plan_optimization(self.config, {self.config.backbone_lr_factor: self.network.backbone, 1.0: self}, self)


def build_network(config: EmbedderTrainingConfig) -> EmbeddingNetwork:
    """Return the network that a training configuration describes, frozen as it says."""
    backbone = build_backbone(config.backbone, pretrained=config.pretrained)
    network = EmbeddingNetwork(
        backbone, stride=config.stride, dim=config.dim, stripes=config.stripes, dense=config.dense
    )
    network.backbone.freeze(config.freeze_stride)
    if config.init:
        start_from(network, config.init, kind="embedder")
    network.to(memory_format=torch.channels_last)
    return network
