"""One training step of the segmenter, and its validation by mIoU on whole pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from vision.backbones.registry import build_classifier
from vision.evaluation.segmentation import PER_CLASS, measure_segmenter
from vision.runtime.engine import Engine, EngineInput, default_threads
from vision.runtime.onnx_engine import OnnxEngine, export
from vision.runtime.torch_engine import TorchEngine
from vision.segmentation.fcn import FCN
from vision.segmentation.losses import dice_loss, pixel_loss
from vision.segmentation.segmenter import CoarseLogits, EngineSegmenter, padded_multiple
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import MaskFormat
from vision.training.frozen_trunk import FrozenTrunk
from vision.training.initial_weights import start_from
from vision.training.optimization import plan_optimization
from vision.training.processes import from_first_process
from vision.training.segmenter_config import SegmenterTrainingConfig

MONITOR = "val_mIoU"


class SegmenterTask(LightningModule):
    """Trains an FCN; ``val_mIoU`` is what checkpoints are chosen by.

    Args:
        config: settings of the run.
        form: classes of the masks.
        val_pairs: pictures to validate on.
        weights: float32 [K], the weight of each class in the loss, or None for equal ones.
    """

    def __init__(
        self,
        config: SegmenterTrainingConfig,
        form: MaskFormat,
        val_pairs: Sequence[MaskedPicture],
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.form = form
        self.val_pairs = list(val_pairs)
        self.total_steps = 1.0
        self.network = build_network(config, len(form.class_names))
        self._trunk: FrozenTrunk | None = None
        # Not saved: the data give it again.
        self.register_buffer("weights", weights, persistent=False)

    def on_fit_start(self) -> None:
        """On the CPU, hand the frozen stages to ONNX Runtime."""
        backbone = self.network.backbone
        if self.device.type == "cpu" and len(backbone.frozen_stages()):
            self._trunk = FrozenTrunk(backbone, threads=self.config.threads)
            backbone.use_trunk(self._trunk)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        """Return the loss of one batch: images [B, 3, H, W], labels [B, H, W]."""
        images, labels = batch
        images = images.contiguous(memory_format=torch.channels_last)
        # The last enlargement takes part where it learns; where it is fixed, the loss needs no pixel-sized logits.
        logits = self.network(images) if self.network.learnable else self.network.coarse(images)
        logits, labels = at_stride(logits.float(), labels, self.config.loss_stride)
        weights = self.weights if isinstance(self.weights, Tensor) else None
        config = self.config
        losses = {
            "loss_pixels": pixel_loss(
                logits,
                labels,
                ignore=config.ignore,
                weights=weights,
                focal_gamma=config.focal_gamma,
                label_smoothing=config.label_smoothing,
            )
        }
        if config.dice_weight:
            losses["loss_dice"] = config.dice_weight * dice_loss(logits, labels, ignore=config.ignore)
        measured = dict(losses)
        known = labels != config.ignore
        if bool(known.any()):  # else there is no accuracy
            measured["accuracy"] = (logits.argmax(dim=1) == labels)[known].float().mean()
        self.log_dict(measured, batch_size=len(images), on_step=True, on_epoch=False)
        return torch.stack(list(losses.values())).sum()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Keep finer scores as they are until their stage of a staged run begins.

        Without a gradient the optimizer passes a weight over: no decay, and its moments begin with the stage. This
        depends on the step alone, so a resumed run does the same.
        """
        if not self.config.staged:
            return
        for stride in waiting_strides(self.network.strides, self.global_step, self.total_steps):
            for parameter in self.network.score[str(stride)].parameters():
                parameter.grad = None

    def validation_step(self, batch: Tensor, batch_index: int) -> None:
        """Measure all validation pictures whole with the averaged weights, as inference sees them.

        Here and not at the end of the epoch: by then the averaging callback has put the raw weights back.
        """
        segmenter = self._segmenter()
        meter = measure_segmenter(segmenter, self.val_pairs, self.form, borders=False)
        segmenter.close()
        # The first process's weights and statistics are those that are saved.
        scores = from_first_process(meter.scores())
        self.log_dict(
            {f"val_{name}": value for name, value in scores.items() if not name.startswith(PER_CLASS)}, batch_size=1
        )

    def _segmenter(self) -> EngineSegmenter:
        config, network = self.config, self.network
        exported = CoarseLogits(network)
        engine: Engine
        if self.device.type == "cpu":
            spec = EngineInput(example_hw=(4 * network.multiple,) * 2, dynamic_hw=True, digest="")
            network.backbone.use_trunk(None)  # the exported network holds all stages
            try:
                model = export(exported, spec)
            finally:
                network.backbone.use_trunk(self._trunk)
            engine = OnnxEngine(model, threads=config.threads or default_threads())
        else:
            engine = TorchEngine(exported, self.device, "fp32")
        return EngineSegmenter(
            engine,
            class_names=self.form.class_names,
            normalization=network.backbone.normalization,
            multiple=padded_multiple(network.backbone),
            long_side=config.long_side,
        )

    def configure_optimizers(self) -> dict[str, object]:
        """Return the configured optimizer and schedule; a pretrained backbone moves slower than the new layers."""
        factor = self.config.backbone_lr_factor if self.config.pretrained else 1.0
        return plan_optimization(self.config, {factor: self.network.backbone, 1.0: self.network}, self)


def waiting_strides(strides: Sequence[int], step: int, total_steps: float) -> tuple[int, ...]:
    """Return the strides whose scores do not learn yet at a step of a staged run: its stages take equal shares.

    Args:
        strides: of all scores, coarsest first; one alone never waits.
        step: optimizer steps done.
        total_steps: of the whole run.

    >>> waiting_strides((32, 16, 8), 0, 90), waiting_strides((32, 16, 8), 30, 90), waiting_strides((32, 16, 8), 60, 90)
    ((16, 8), (8,), ())
    """
    begun = 1 + sum(step * len(strides) >= total_steps * stage for stage in range(1, len(strides)))
    return tuple(strides[begun:])


def at_stride(logits: Tensor, labels: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return logits [B, K, h, w] and labels [B, h, w] on the grid of every ``stride``-th pixel.

    Of the labels those in the middle of the cells are taken, for classes cannot be averaged. Logits of the labels' size
    are taken at the same pixels, others are interpolated to the grid.
    """
    height, width = (side // stride for side in labels.shape[1:])
    middle = slice(stride // 2, None, stride)
    if logits.shape[2:] == labels.shape[1:]:
        logits = logits[:, :, middle, middle][:, :, :height, :width]
    elif logits.shape[2:] != (height, width):
        logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    return logits, labels[:, middle, middle][:, :height, :width]


def build_network(config: SegmenterTrainingConfig, num_classes: int) -> FCN:
    """Return the network that a training configuration describes, frozen as it says."""
    backbone = build_classifier(config.backbone, pretrained=config.pretrained).backbone
    backbone.freeze(config.freeze_stride)
    network = FCN(
        backbone,
        num_classes,
        stride=config.stride,
        width=config.width,
        learnable=config.learnable,
        dropout=config.dropout,
    )
    if config.init:
        start_from(network, config.init, kind="segmenter")
    network.to(memory_format=torch.channels_last)
    return network
