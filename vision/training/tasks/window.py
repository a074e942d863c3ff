"""One training step of the sliding-window detector, its rounds of mining, and its validation by AP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vision.detection.config import EVALUATION_CONF, DetectorConfig
from vision.detection.window import WindowDetector
from vision.detection.window_losses import WindowTarget, window_loss
from vision.detection.window_network import WindowArchitecture, WindowNetwork
from vision.evaluation.detection import evaluate_detector
from vision.geometry.iou import pairwise_iou
from vision.runtime.engine import Engine, EngineInput, default_threads
from vision.runtime.onnx_engine import OnnxEngine, export
from vision.runtime.torch_engine import TorchEngine
from vision.training.datasets.pictures import AnnotatedImage
from vision.training.datasets.windows import WindowPatches
from vision.training.frozen_trunk import FrozenTrunk
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process, is_first_process
from vision.training.window_config import WindowTrainingConfig
from vision.types import FloatArray, Frame, IntArray

log = logging.getLogger(__name__)

# A detection that overlaps an object by less is a mistake to learn from; one that overlaps more is merely placed badly.
FALSE_IOU = 0.3
MINED = "mined_false_positives"


class WindowTask(LightningModule):
    """Trains a WindowNetwork; ``val_ap`` is what checkpoints are chosen by."""

    def __init__(
        self, config: WindowTrainingConfig, class_names: Sequence[str], val_images: Sequence[AnnotatedImage]
    ) -> None:
        super().__init__()
        self.config = config
        self.class_names = tuple(class_names)
        self.val_images = list(val_images)
        self.total_steps = 1.0
        self.network = build_network(config, len(class_names))
        self.patches: WindowPatches | None = None
        self._nominal: Tensor | None = None
        self._trunk: FrozenTrunk | None = None

    def on_fit_start(self) -> None:
        """On the CPU, hand the frozen stages to ONNX Runtime."""
        if self.device.type == "cpu" and len(self.network.backbone.frozen_stages()):
            self._trunk = FrozenTrunk(
                self.network.backbone,
                threads=self.config.threads,
                example_hw=self.network.geometry.crop_hw,
            )
            self.network.backbone.use_trunk(self._trunk)

    def training_step(self, batch: tuple[Tensor, list[WindowTarget]], batch_index: int) -> Tensor:
        """Return the loss of one batch of patches."""
        patches, targets = batch
        if self._nominal is None:
            geometry = self.network.geometry
            grid_hw = geometry.grid_hw((patches.shape[2], patches.shape[3]))
            self._nominal = geometry.nominal_boxes(grid_hw).to(self.device)
        classes, objectness, deltas = self.network(patches.contiguous(memory_format=torch.channels_last))
        loss = window_loss(
            (classes.float(), objectness.float(), deltas.float()),
            self._nominal,
            targets,
            negatives_per_positive=self.config.negatives_per_positive,
            # A function of the step: a resumed run chooses as an uninterrupted one.
            generator=torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.global_step),
        )
        self.log_dict(
            {
                "loss": loss.total,
                "loss_objectness": loss.objectness,
                "loss_class": loss.classification,
                "loss_box": loss.box,
            },
            batch_size=len(targets),
            on_step=True,
            on_epoch=False,
        )
        return loss.total

    def on_train_epoch_end(self) -> None:
        """After every ``mine_every`` epochs, collect false positives on training pictures for the epochs to come."""
        done = self.current_epoch + 1
        due = self.config.mine_every and done % self.config.mine_every == 0 and done < self.config.epochs
        if self.patches is not None and due:
            self._mine(self.patches)

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Measure AP on whole pictures, which have many sizes; the batch is only the signal to do so.

        Here and not at the end of the epoch: by then the averaged weights have been taken out again.
        """
        # The first process's weights and statistics are those that are saved.
        first = is_first_process()
        detector = self.detector(conf=EVALUATION_CONF)
        metrics = from_first_process(evaluate_detector(detector, self.val_images, self.class_names) if first else {})
        self.log_dict({f"val_{name}": value for name, value in metrics.items()}, batch_size=1)

    def detector(self, *, conf: float) -> WindowDetector:
        """Return the detector that the current weights make."""
        return WindowDetector(
            self._engine(),
            geometry=self.network.geometry,
            class_names=self.class_names,
            normalization=self.network.backbone.normalization,
            long_side=self.config.long_side,
            scales_per_octave=self.config.scales_per_octave,
            config=DetectorConfig(conf=conf, max_det=100),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the mined false positives: a resumed run trains on the same patches."""
        if self.patches is not None:
            checkpoint[MINED] = (
                torch.from_numpy(self.patches.mined_pictures),
                torch.from_numpy(self.patches.mined_boxes),
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the mined false positives back."""
        if self.patches is not None and MINED in checkpoint:
            pictures, boxes = checkpoint[MINED]
            self.patches.set_mined(pictures.numpy(), boxes.numpy())

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule; the backbone moves slower."""
        groups = {self.config.backbone_lr_factor: self.network.backbone, 1.0: self.network}
        return plan_optimization(self.config, groups, self)

    def _engine(self) -> Engine:
        """Return an engine with the current weights; on the CPU the one that inference uses, which is faster."""
        if self.device.type != "cpu":
            return TorchEngine(self.network, self.device, "fp32")
        backbone, crop_hw = self.network.backbone, self.network.geometry.crop_hw
        backbone.use_trunk(None)  # the exported network holds all stages
        try:
            model = export(self.network, EngineInput(example_hw=crop_hw, dynamic_hw=True, digest=""))
        finally:
            backbone.use_trunk(self._trunk)
        return OnnxEngine(model, threads=self.config.threads or default_threads())

    def _mine(self, patches: WindowPatches) -> None:
        """Search some training pictures and add what is found where nothing is to the patches' background."""
        rng = np.random.default_rng((self.config.seed, self.current_epoch))
        count = min(self.config.mine_pictures, len(patches.images))
        chosen = np.sort(rng.choice(len(patches.images), count, replace=False))
        was_training = self.network.training
        self.network.eval()
        pictures, boxes = mine_false_positives(
            self.detector(conf=self.config.mine_conf), patches, chosen.astype(np.int64)
        )
        self.network.train(was_training)
        patches.set_mined(
            np.concatenate([patches.mined_pictures, pictures]), np.concatenate([patches.mined_boxes, boxes])
        )
        log.info("mined %d false positives in %d pictures", len(boxes), count)


def mine_false_positives(
    detector: WindowDetector, patches: WindowPatches, pictures: IntArray
) -> tuple[IntArray, FloatArray]:
    """Return where a detector sees objects and there are none: picture numbers int64 [M] and boxes float32 [M, 4]."""
    numbers, boxes = [np.zeros(0, np.int64)], [np.zeros((0, 4), np.float32)]
    for number in pictures.tolist():
        sample = patches.images[number]
        found = detector.detect([Frame(patches.cache.load(sample.path), source=str(sample.path))])[0]
        crowds = sample.crowd_boxes
        known = sample.boxes if crowds is None else np.concatenate([sample.boxes, crowds])
        overlap = pairwise_iou(found.boxes, known).max(axis=1, initial=0.0)
        false = found.boxes[overlap < FALSE_IOU]
        numbers.append(np.full(len(false), number, np.int64))
        boxes.append(false)
    return np.concatenate(numbers), np.concatenate(boxes)


def build_network(config: WindowTrainingConfig, num_classes: int) -> WindowNetwork:
    """Return the network that a training configuration describes, frozen as it says."""
    network = WindowNetwork(architecture_of(config), num_classes, pretrained=config.pretrained, dropout=config.dropout)
    network.backbone.freeze(config.freeze_stride)
    network.to(memory_format=torch.channels_last)
    return network


def architecture_of(config: WindowTrainingConfig) -> WindowArchitecture:
    """Return the network's part of a training configuration."""
    return WindowArchitecture(
        backbone=config.backbone,
        stride=config.stride,
        depth=config.depth,
        cells_hw=config.cells_hw,
        hidden=config.hidden,
        size=config.size,
        aspects=config.aspects,
    )
