"""One training step of the single-pass embedder's head, and its validation by finding held-out people again.

The losses are the embedder's (tasks/embedder.py); what differs is the input, pooled features in place of pictures, and
that there is no backbone to train.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from vision.evaluation.reid import evaluate_embeddings
from vision.reid.roi_network import RoiEmbeddingNetwork
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process
from vision.training.roi_embedder_config import RoiEmbedderTrainingConfig
from vision.training.tasks.embedder_losses import PeopleClassifier, batch_hard_triplet_loss, circle_loss


class RoiEmbedderTask(LightningModule):
    """Trains a RoiEmbeddingNetwork; ``val_rank1`` is what checkpoints are chosen by."""

    def __init__(self, config: RoiEmbedderTrainingConfig, *, channels: int, people: int) -> None:
        """Build a fresh head for pooled features of ``channels`` and a classifier of the training people."""
        super().__init__()
        self.config = config
        self.total_steps = 1.0
        self.network = RoiEmbeddingNetwork(channels, dim=config.dim, width=config.width, depth=config.depth)
        self.network.to(memory_format=torch.channels_last)
        self.classifier = PeopleClassifier(config.dim, people)
        self._validated: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch of P people x K pasted crops."""
        pooled, person_ids = batch
        # A third faster on a CPU: nearly all layers are 1x1 convolutions.
        raw, centred = self.network.features(pooled.contiguous(memory_format=torch.channels_last))
        logits, _ = self.classifier(F.dropout(centred, self.config.dropout, self.training), person_ids)
        losses = {
            "loss_class": F.cross_entropy(logits, person_ids, label_smoothing=self.config.label_smoothing),
            "loss_triplet": batch_hard_triplet_loss(raw.float(), person_ids, margin=self.config.margin),
        }
        if self.config.circle_weight:
            losses["loss_circle"] = self.config.circle_weight * circle_loss(centred.float(), person_ids)
        accuracy = (logits.argmax(dim=1) == person_ids).float().mean()
        self.log_dict({**losses, "accuracy": accuracy}, batch_size=len(pooled), on_step=True, on_epoch=False)
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_index: int) -> None:
        """Embed one batch of held-out crops with the averaged weights."""
        pooled, person_ids, camera_ids = batch
        self._validated.append((self.network(pooled.float()).float().cpu(), person_ids.cpu(), camera_ids.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure rank-1, rank-5 and mAP over all held-out crops."""
        embeddings, person_ids, camera_ids = (
            torch.cat(column).numpy() for column in zip(*self._validated, strict=True)
        )
        self._validated.clear()
        metrics = from_first_process(evaluate_embeddings(embeddings, person_ids, camera_ids))
        self.log_dict({f"val_{name}": value for name, value in metrics.items() if name != "queries"})

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule."""
        return plan_optimization(self.config, {1.0: self}, self)
