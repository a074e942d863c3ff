"""torchvision's segmenters behind our protocol: FCN, DeepLabV3 and LR-ASPP, with the 21 classes of Pascal VOC.

Pictures come in through our own preprocessing and the network gives logits of the input's size, so an engine runs it
like an FCN of ours. Building never downloads; weights come from the cache of ``stride32 models pull`` or from a file.
"""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import Tensor, nn

from vision import remote
from vision.backbones.checkpoint import load_by_name
from vision.backbones.interface import IMAGENET_NORMALIZATION
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput, build_engine
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.readout import Reading
from vision.segmentation.segmenter import EngineSegmenter
from vision.store import file_sha256

# torchvision's name -> whether the checkpoint holds the auxiliary classifier of training, which inference drops.
VOC_SEGMENTERS = {
    "fcn_resnet50": True,
    "fcn_resnet101": True,
    "deeplabv3_resnet50": True,
    "deeplabv3_resnet101": True,
    "deeplabv3_mobilenet_v3_large": True,
    "lraspp_mobilenet_v3_large": False,
}
# torchvision's evaluation scales the shorter side to 520; in a picture of 4 by 3 the longer one is then 693.
LONG_SIDE = 693
MULTIPLE = 32


class MainOutput(nn.Module):
    """The logits among the outputs of torchvision's segmenters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return logits [B, K, H, W]."""
        logits: Tensor = self.network(images_BCHW)["out"]
        return logits


def published_name(model: str) -> str | None:
    """Return torchvision's name of the segmenter ``model``, or None when it is not one of them."""
    return model if model in VOC_SEGMENTERS else None


def voc_names() -> tuple[str, ...]:
    """Return the names of VOC's 21 classes, "background" first."""
    categories = torchvision.models.get_model_weights("fcn_resnet50")["COCO_WITH_VOC_LABELS_V1"].meta["categories"]
    return tuple("background" if name == "__background__" else str(name) for name in categories)


def build_torchvision(name: str, num_classes: int) -> nn.Module:
    """Return torchvision's network with fresh weights; nothing is downloaded."""
    network: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes
    )
    return network


def load_published(name: str, config: SegmenterConfig, runtime: RuntimeConfig) -> EngineSegmenter:
    """Return one of torchvision's segmenters with its published weights.

    Args:
        name: key of ``VOC_SEGMENTERS``.
        config: size and outputs; ``weights`` is a checkpoint file, empty takes the cache.
        runtime: device, engine, precision and threads.

    Raises:
        ModelError: the weights are not in the cache; says how they get there.
        WeightsError: the file is damaged or does not fit.
    """
    path = Path(config.weights).expanduser() if config.weights else remote.require(name)
    names = voc_names()
    network = build_torchvision(name, len(names))
    load_by_name(network, path, ignored=("aux_classifier.",) if VOC_SEGMENTERS[name] else ())
    spec = EngineInput(example_hw=(4 * MULTIPLE,) * 2, dynamic_hw=True, digest=file_sha256(path))
    return EngineSegmenter(
        build_engine(MainOutput(network.eval()), spec, runtime),
        class_names=names,
        normalization=IMAGENET_NORMALIZATION,
        multiple=MULTIPLE,
        long_side=config.long_side or LONG_SIDE,
        reading=Reading(names, kept=config.classes, scores=config.scores),
        max_batch=config.max_batch,
    )
