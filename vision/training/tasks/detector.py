"""One training step of the anchor detector, and its validation by AP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vision.backbones.registry import build_backbone
from vision.detection.anchors import Anchors, make_anchors
from vision.detection.architecture import DetectorArchitecture, make_architecture
from vision.detection.architecture import build_network as build_detector_network
from vision.detection.assigner import ASSIGNERS
from vision.detection.config import EVALUATION_CONF, EVALUATION_MAX_DET, DetectorConfig
from vision.detection.decode import decode_detections
from vision.detection.losses import DetectionTarget, detection_loss
from vision.detection.network import AnchorDetectorNetwork
from vision.evaluation.detection import evaluate_detector
from vision.geometry.letterbox import Letterbox
from vision.runtime.preprocess import preprocess
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.pictures import AnnotatedImage
from vision.training.frozen_trunk import FrozenTrunk
from vision.training.initial_weights import start_from
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process, is_first_process
from vision.types import Detections, Frame


class DetectorTask(LightningModule):
    """Trains an AnchorDetectorNetwork; ``val_ap`` is what checkpoints are chosen by."""

    def __init__(
        self,
        config: DetectorTrainingConfig,
        class_names: Sequence[str],
        val_images: Sequence[AnnotatedImage],
    ) -> None:
        super().__init__()
        self.config = config
        self.class_names = tuple(class_names)
        self.val_images = list(val_images)
        self.total_steps = 1.0
        self.network = build_network(config, len(class_names))
        self.anchors: Anchors | None = None

    def on_fit_start(self) -> None:
        """On the CPU, hand the frozen stages to ONNX Runtime."""
        if self.device.type == "cpu" and self.config.freeze_stride:
            self.network.backbone.use_trunk(FrozenTrunk(self.network.backbone, threads=self.config.threads))

    def training_step(self, batch: tuple[Tensor, list[DetectionTarget]], batch_index: int) -> Tensor:
        """Return the loss of one batch."""
        images, targets = batch
        if self.anchors is None:
            self.anchors = make_anchors(self.network.anchors, (images.shape[2], images.shape[3]), self.device)
        logits, deltas = self.network(images.contiguous(memory_format=torch.channels_last))
        assign, kind = ASSIGNERS[self.config.assigner], self.config.loss
        loss = detection_loss(logits.float(), deltas.float(), self.anchors, targets, assign=assign, loss=kind)
        self.log_dict(
            {"loss": loss.total, "loss_class": loss.classification, "loss_box": loss.box},
            batch_size=len(targets),
            on_step=True,
            on_epoch=False,
        )
        return loss.total

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Measure AP on whole pictures, which have many sizes; the batch is only the signal to do so.

        Here and not at the end of the epoch: by then the averaged weights have been taken out again. Of several
        processes the first measures: its weights and statistics are those that are saved.
        """
        measured = evaluate_detector(self, self.val_images, self.class_names) if is_first_process() else {}
        metrics = from_first_process(measured)
        self.log_dict({f"val_{name}": value for name, value in metrics.items()}, batch_size=1)

    @torch.inference_mode()
    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return detections of each frame with the current weights."""
        return [self._detect_one(frame) for frame in frames]

    def _detect_one(self, frame: Frame) -> Detections:
        letterbox = Letterbox.fit(frame.size_hw, long_side=self.config.long_side, multiple=self.network.multiple)
        image = torch.from_numpy(preprocess(frame.image, letterbox, self.network.backbone.normalization))
        logits, deltas = self.network(image[None].to(self.device, memory_format=torch.channels_last))
        anchors = make_anchors(self.network.anchors, letterbox.padded_hw)
        config = DetectorConfig(conf=EVALUATION_CONF, max_det=EVALUATION_MAX_DET)
        return decode_detections(logits[0].cpu(), deltas[0].cpu(), anchors.boxes, letterbox, config)

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule; the backbone moves slower."""
        groups = {self.config.backbone_lr_factor: self.network.backbone, 1.0: self.network}
        return plan_optimization(self.config, groups, self)


def architecture_of(config: DetectorTrainingConfig) -> DetectorArchitecture:
    """Return the architecture that a training configuration describes, the family's sizes filled in."""
    return make_architecture(
        config.family,
        config.backbone,
        channels=config.channels,
        head_depth=config.head_depth,
        strides=config.strides,
        anchor_scale=config.anchor_scale,
        anchor_ratios=config.anchor_ratios,
        anchor_octaves=config.anchor_octaves,
    )


def build_network(config: DetectorTrainingConfig, num_classes: int) -> AnchorDetectorNetwork:
    """Return the network that a training configuration describes, frozen as it says."""
    backbone = build_backbone(config.backbone, pretrained=config.pretrained)
    backbone.freeze(config.freeze_stride)
    network = build_detector_network(architecture_of(config), backbone, num_classes=num_classes)
    network.dropout.p = config.dropout
    if config.init:
        start_from(network, config.init)
    network.to(memory_format=torch.channels_last)
    return network
