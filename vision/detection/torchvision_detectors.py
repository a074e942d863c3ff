"""Detectors of torchvision behind our protocol: its COCO detectors by name, and checkpoints fine-tuned from them.

The network comes with its own preprocessing and decoding (it takes RGB in [0, 1] of any size and returns boxes in
pixels of the picture), so nothing of ours stands between: we choose thresholds, translate labels, and keep the order
of frames. Building never downloads; weights come from the cache of ``stride32 models pull`` or from a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import nms

from vision import remote
from vision.backbones.checkpoint import load_by_name
from vision.card import ModelCard
from vision.detection.classes import wanted_labels
from vision.detection.config import DetectorConfig
from vision.errors import ConfigError, ModelError, closest_hint
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import resolve_device
from vision.runtime.torch_engine import AUTOCAST_TYPES
from vision.runtime.weights import card_value, load_into
from vision.store import check_digest
from vision.types import Detections, Frame, IntArray


@dataclass(frozen=True, slots=True)
class Kind:
    """What differs between torchvision's detectors.

    Attributes:
        nms_iou: overlap of the NMS that it was published with.
        prefix: of the constructor's threshold arguments.
        fixed_size: whether every picture is stretched to one square (SSD).
        norm_eps: epsilon of the batch norms where the published weights need another than torch's.
    """

    nms_iou: float = 0.5
    prefix: str = ""
    fixed_size: bool = False
    norm_eps: float | None = None


COCO_DETECTORS = {
    "fasterrcnn_resnet50_fpn_v2": Kind(prefix="box_"),
    "retinanet_resnet50_fpn_v2": Kind(),
    "fcos_resnet50_fpn": Kind(nms_iou=0.6),
    "ssd300_vgg16": Kind(nms_iou=0.45, fixed_size=True),
    "ssdlite320_mobilenet_v3_large": Kind(nms_iou=0.55, fixed_size=True),
}
# Only for checkpoints with a card: what the well-known tutorial fine-tunes. Its COCO weights come from Caffe2, where
# the batch norms have no epsilon.
CARD_DETECTORS = {**COCO_DETECTORS, "fasterrcnn_resnet50_fpn": Kind(prefix="box_", norm_eps=0.0)}
ALIASES = {"fcos": "fcos_resnet50_fpn"}


def published_name(model: str) -> str | None:
    """Return torchvision's name of the COCO detector ``model``, or None when it is not one of them."""
    name = ALIASES.get(model, model)
    return name if name in COCO_DETECTORS else None


class TorchvisionDetector:
    """Runs a detector of torchvision. Stateless between calls: safe to share by threads."""

    def __init__(
        self,
        network: nn.Module,
        *,
        class_names: tuple[str, ...],
        label_of: IntArray,
        config: DetectorConfig,
        runtime: RuntimeConfig,
    ) -> None:
        """Take a network whose thresholds are set.

        Args:
            network: maps a list of pictures [3, H, W] to a list of dictionaries with boxes, labels and scores.
            class_names: name of each of our labels.
            label_of: int64, our label of each of the network's labels, -1 for those that mean nothing.
            config: limits and wanted classes. runtime: device, precision and threads.
        """
        if runtime.engine == "onnx":
            raise ConfigError("torchvision's detectors run with torch, got runtime.engine=onnx; leave it at auto")
        self.device = resolve_device(runtime.device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self.class_names = class_names
        self.config = config
        self._label_of = torch.from_numpy(_only_wanted(label_of, config.classes, class_names))
        self._autocast_type = AUTOCAST_TYPES.get(runtime.precision) if self.device.type == "cuda" else None
        if runtime.threads and self.device.type == "cpu":
            torch.set_num_threads(runtime.threads)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the detections of each frame, best first, in pixels of that frame.

        Frames of one size run as one batch. torchvision would pad those of several sizes to the largest, and a frame
        would not give the same result in every company.
        """
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, frame in enumerate(frames):
            groups[frame.size_hw].append(row)
        results: list[Detections] = [Detections.empty()] * len(frames)
        for rows in groups.values():
            for row, output in zip(rows, self._run([frames[row] for row in rows]), strict=True):
                results[row] = self._translate(output)
        return results

    @torch.inference_mode()
    def _run(self, frames: Sequence[Frame]) -> list[dict[str, Tensor]]:
        """Return the network's own output for frames of one size, on the CPU."""
        # torch.tensor copies: a frame is read-only, which torch.from_numpy does not support.
        images = [
            torch.tensor(frame.image, device=self.device).permute(2, 0, 1).float().div_(255).contiguous()
            for frame in frames
        ]
        with torch.autocast(self.device.type, self._autocast_type, enabled=self._autocast_type is not None):
            outputs = self.network(images)
        return [{key: value.cpu() for key, value in output.items()} for output in outputs]

    def _translate(self, output: dict[str, Tensor]) -> Detections:
        """Return one picture's output with our labels, wanted classes only, at most ``max_det``."""
        labels = self._label_of[output["labels"]]
        known = labels >= 0
        boxes, scores, labels = output["boxes"][known].float(), output["scores"][known].float(), labels[known]
        if self.config.class_agnostic:
            # The network has done NMS within each class by now; this is the rest.
            kept = nms(boxes, scores, self.config.nms_iou)
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        limit = self.config.max_det
        return Detections(boxes[:limit].numpy(), scores[:limit].numpy(), labels[:limit].numpy())


def load_published(name: str, config: DetectorConfig, runtime: RuntimeConfig) -> TorchvisionDetector:
    """Return one of torchvision's COCO detectors with the 80 classes of COCO.

    Args:
        name: key of ``COCO_DETECTORS``.
        config: thresholds; ``weights`` is a checkpoint file, empty takes the cache.
        runtime: device, precision and threads.

    Raises:
        ModelError: the weights are not in the cache; says how they get there.
        WeightsError: the file is damaged or does not fit.
        ConfigError: a setting that this detector cannot follow.
    """
    path = Path(config.weights).expanduser() if config.weights else remote.require(name)
    # torchvision keeps the 91 names of COCO's paper, of which the data sets use 80.
    names = torchvision.models.get_model_weights(name)["COCO_V1"].meta["categories"]
    used = [index for index, label in enumerate(names) if label not in ("__background__", "N/A")]
    network = build_torchvision(name, len(names), config)
    load_by_name(network, path)
    return TorchvisionDetector(
        network,
        class_names=tuple(names[index] for index in used),
        label_of=_label_table(used, len(names)),
        config=config,
        runtime=runtime,
    )


def load_torchvision_detector(card: ModelCard, config: DetectorConfig, runtime: RuntimeConfig) -> TorchvisionDetector:
    """Return the fine-tuned detector that a model card of the family "torchvision" describes.

    ``architecture`` holds ``model`` (key of ``CARD_DETECTORS``) and, where they differ from one background class
    followed by the labels, ``num_classes`` (outputs of the network) and ``category_ids`` (the network's label of each
    of ours). ``preprocess`` may hold ``min_size`` and ``max_size``. The weights may be .safetensors or a .pth file of
    tensors.

    Raises:
        ModelError: the card lacks a key or contradicts itself.
        WeightsError: the file is missing, altered or does not fit.
        ConfigError: a setting that this detector cannot follow.
    """
    name = card_value(card, "architecture", "model")
    if name not in CARD_DETECTORS:
        raise ModelError(
            f"{card.name}: architecture.model must be one of {', '.join(CARD_DETECTORS)}, got {name!r}"
            f"{closest_hint(name, CARD_DETECTORS)}; correct the card",
            path=card.folder,
        )
    outputs = int(card.architecture.get("num_classes", len(card.labels) + 1))
    category_ids = [int(value) for value in card.architecture.get("category_ids", _last_ids(len(card.labels), outputs))]
    fits = len(category_ids) == len(card.labels) and all(0 <= value < outputs for value in category_ids)
    if not fits or len(set(category_ids)) != len(category_ids):
        raise ModelError(
            f"{card.name}: architecture.category_ids must give each of {len(card.labels)} labels a number below "
            f"num_classes={outputs} of its own, got {category_ids}; correct the card",
            path=card.folder,
        )
    sizes = {key: int(card.preprocess[key]) for key in ("min_size", "max_size") if key in card.preprocess}
    eps = card.architecture.get("norm_eps", CARD_DETECTORS[name].norm_eps)
    network = build_torchvision(name, outputs, config, norm_eps=eps, **sizes)
    if card.weights_path.suffix == ".safetensors":
        load_into(network, card)
    else:
        check_digest(card)
        load_by_name(network, card.weights_path)
    return TorchvisionDetector(
        network,
        class_names=card.labels,
        label_of=_label_table(category_ids, outputs),
        config=config,
        runtime=runtime,
    )


def build_torchvision(
    name: str, outputs: int, config: DetectorConfig, *, norm_eps: float | None = None, **sizes: int
) -> nn.Module:
    """Return the network of ``CARD_DETECTORS[name]`` with fresh weights and the thresholds of ``config``.

    Args:
        name: torchvision's name.
        outputs: classes, background included.
        config: a ``long_side`` above 0 resizes pictures to it.
        norm_eps: epsilon of all batch norms; None leaves torch's.
        **sizes: ``min_size`` and ``max_size`` of torchvision's resizing.
    """
    kind = CARD_DETECTORS[name]
    limits: dict[str, Any] = {
        f"{kind.prefix}score_thresh": config.score_floor,
        # More than max_det: classes that are not wanted leave later and must not use up its places.
        f"{kind.prefix}detections_per_img": max(config.max_det, config.pre_nms),
    }
    if config.iou != "auto":
        limits[f"{kind.prefix}nms_thresh"] = config.iou
    if config.long_side:
        if kind.fixed_size:
            raise ConfigError(
                f"{name} has an input of one size, got detection.long_side={config.long_side}; leave it at 0"
            )
        # A short side as large as the long one never decides: the longer side becomes long_side.
        sizes = {"min_size": config.long_side, "max_size": config.long_side}
    network: nn.Module = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, num_classes=outputs, **limits, **sizes
    )
    if norm_eps is not None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = norm_eps
    return network


def _last_ids(labels: int, outputs: int) -> range:
    """Return the network's labels when nothing is said: the last ones, after a background if there is room for it."""
    return range(max(outputs - labels, 0), outputs)


def _label_table(category_ids: Sequence[int], outputs: int) -> IntArray:
    table = np.full(outputs, -1, np.int64)
    table[list(category_ids)] = np.arange(len(category_ids))
    return table


def _only_wanted(label_of: IntArray, wanted: Sequence[str], class_names: Sequence[str]) -> IntArray:
    """Return the table with -1 for every class that is not wanted; ConfigError for an unknown name."""
    labels = wanted_labels(wanted, class_names)
    return label_of if labels is None else np.where(np.isin(label_of, labels), label_of, -1).astype(np.int64)
