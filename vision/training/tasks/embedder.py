"""One training step of the embedder, and its validation by finding held-out people again.

Loss: classification of the training people with label smoothing on the feature after the neck, batch-hard triplets on
the one before it (Luo 2019, "Bag of tricks"; Hermans 2017, section 2).
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from vision.backbones.registry import build_backbone
from vision.evaluation.reid import evaluate_embeddings
from vision.reid.network import EmbeddingNetwork
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process


class EmbedderTask(LightningModule):
    """Trains an EmbeddingNetwork; ``val_rank1`` is what checkpoints are chosen by."""

    def __init__(self, config: EmbedderTrainingConfig, people: int) -> None:
        super().__init__()
        self.config = config
        self.total_steps = 1.0
        self.network = build_network(config)
        # Needed by the loss alone: it never leaves the checkpoint.
        self.classifier = nn.Linear(config.dim, people, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.01)
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of P people x K crops."""
        crops, person_ids = batch
        raw, centred = self.network.features(crops.contiguous(memory_format=torch.channels_last))
        logits = self.classifier(F.dropout(centred, self.config.dropout, self.training))
        loss_class = F.cross_entropy(logits, person_ids, label_smoothing=self.config.label_smoothing)
        loss_triplet = batch_hard_triplet_loss(raw.float(), person_ids, margin=self.config.margin)
        accuracy = (logits.argmax(dim=1) == person_ids).float().mean()
        self.log_dict(
            {"loss_class": loss_class, "loss_triplet": loss_triplet, "accuracy": accuracy},
            batch_size=len(crops),
            on_step=True,
            on_epoch=False,
        )
        return loss_class + loss_triplet

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
    network = EmbeddingNetwork(backbone, stride=config.stride, dim=config.dim)
    network.backbone.freeze(config.freeze_stride)
    network.to(memory_format=torch.channels_last)
    return network


def batch_hard_triplet_loss(features: Tensor, person_ids: Tensor, *, margin: float) -> Tensor:
    """Return the mean of max(0, margin + distance to the farthest crop of the same person - to the nearest of another).

    Args:
        features: [B, D], not normalised.
        person_ids: [B]; each person at least twice, at least two people.
        margin: in units of the feature.
    """
    squared = features.pow(2).sum(dim=1)
    squared_distance = squared[:, None] + squared[None] - 2 * features @ features.T
    # The root's slope at zero is infinite: a crop's distance to itself must not reach it.
    distance = squared_distance.clamp(min=1e-6).sqrt()
    same = person_ids[:, None] == person_ids[None]
    farthest_same = distance.masked_fill(~same, 0).amax(dim=1)
    nearest_other = distance.masked_fill(same, float("inf")).amin(dim=1)
    return F.relu(margin + farthest_same - nearest_other).mean()
