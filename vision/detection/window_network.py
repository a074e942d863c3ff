"""The sliding-window detector's network: a classifier of windows with outputs for class, objectness and box.

It is built as a classifier of crops (a trunk without padding, one flattening, dense layers) and then converted, so that
one run over a picture gives the outputs of every window at once (Sermanet et al. 2013, OverFeat). A crop of the
window's size gives one cell, and exactly the cell that the whole picture gives there: nothing in the network looks
beyond the window, and nothing in it sees an edge (see `vision/backbones/unpadded.py`).

The window is larger than the object in it, as with Dalal and Triggs 2005, who kept a margin of a quarter of the object:
the surroundings tell. The object that a window is centred on is described by its *nominal box*.
Legend: B batch, N windows of all aspects, K classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vision.backbones.convolutional import convert_classifier
from vision.backbones.interface import Backbone, Classifier
from vision.backbones.registry import build_backbone
from vision.backbones.unpadded import receptive_field, unpadded
from vision.errors import ConfigError

PRIOR = 0.01  # objectness at the start of training


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowArchitecture:
    """What the network is built from; a card's ``[architecture]`` holds the same fields.

    Attributes:
        backbone: registry name.
        stride: pixels between neighbouring windows; the trunk is the backbone up to this stride.
        depth: pretrained blocks of the next stage on top, a trous, so that windows stay ``stride`` pixels apart.
        cells_hw: feature cells, height and width, that the first dense layer joins.
        hidden: units of the dense layer.
        size: side in pixels of the square with the area of a nominal box.
        aspects: height / width of the nominal boxes, one set of outputs for each.
    """

    backbone: str = "tf_efficientnet_lite0"
    stride: int = 8
    depth: int = 2
    cells_hw: tuple[int, int] = (5, 3)
    hidden: int = 192
    size: float = 32.0
    aspects: tuple[float, ...] = (1.25, 2.5)

    def __post_init__(self) -> None:
        if min(self.stride, self.hidden, *self.cells_hw) < 1 or self.depth < 0:
            raise ConfigError(
                "a window network needs stride, hidden and cells_hw >= 1 and depth >= 0, got "
                f"{self.stride}, {self.hidden}, {self.cells_hw} and {self.depth}; leave them out for the defaults"
            )
        if self.size <= 0 or not self.aspects or min(self.aspects) <= 0:
            raise ConfigError(
                f"window size and aspects must be > 0, got {self.size} and {self.aspects}; "
                "32 and (1.25, 2.5) suit people"
            )

    @property
    def sides_hw(self) -> tuple[tuple[float, float], ...]:
        """Height and width in pixels of the nominal box of each aspect."""
        return tuple((self.size * math.sqrt(aspect), self.size / math.sqrt(aspect)) for aspect in self.aspects)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a card."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> WindowArchitecture:
        """Return the architecture in a card's table; keys of other meaning are left alone."""
        known = {item.name for item in dataclasses.fields(cls)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items() if key in known
        }
        return cls(**values)


@dataclass(frozen=True, slots=True)
class WindowGeometry:
    """Where the windows of a picture lie.

    Attributes:
        crop_hw: height and width in pixels of a window, which is all that its outputs depend on.
        stride: pixels between neighbouring windows.
        sides_hw: height and width of the nominal boxes.
    """

    crop_hw: tuple[int, int]
    stride: int
    sides_hw: tuple[tuple[float, float], ...]

    def grid_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of windows inside a picture; 0 where it is smaller than a window."""
        rows, columns = (
            max(0, (side - crop) // self.stride + 1) for side, crop in zip(size_hw, self.crop_hw, strict=True)
        )
        return rows, columns

    def nominal_boxes(self, grid_hw: tuple[int, int]) -> Tensor:
        """Return float32 [rows * columns * aspects, 4] xyxy, in the order of the network's outputs."""
        y = torch.arange(grid_hw[0], dtype=torch.float32) * self.stride + self.crop_hw[0] / 2
        x = torch.arange(grid_hw[1], dtype=torch.float32) * self.stride + self.crop_hw[1] / 2
        half_hw = torch.tensor(self.sides_hw) / 2
        centre = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)[:, :, None, [1, 0]]
        half_wh = half_hw[None, None, :, [1, 0]]
        return torch.cat([centre - half_wh, centre + half_wh], dim=-1).reshape(-1, 4)


class WindowNetwork(nn.Module):
    """Pictures [B,3,H,W], at least as large as a window, to the outputs of all windows in them.

    Attributes:
        architecture, geometry: what it is made of and where its windows lie.
        dense: the converted classifier.
    """

    def __init__(
        self,
        architecture: WindowArchitecture,
        num_classes: int,
        *,
        pretrained: bool | Path = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        classifier = build_window_classifier(architecture, num_classes, pretrained=pretrained, dropout=dropout)
        self.geometry = WindowGeometry(classifier.native_hw, architecture.stride, architecture.sides_hw)
        self.dense = convert_classifier(classifier)

    @property
    def backbone(self) -> Backbone:
        """The trunk, whose first stages may be frozen."""
        return self.dense.backbone

    def forward(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: N803 - shape suffix
        """Return class logits [B,N,K], objectness logits [B,N] and box deltas [B,N,4]; N is rows, columns, aspects."""
        outputs = split_outputs(self.dense(images_BCHW).permute(0, 2, 3, 1).flatten(1, 2), self.num_classes)
        classes, objectness, deltas = (output.flatten(1, 2) for output in outputs)
        return classes, objectness, deltas


def split_outputs(logits: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return class logits [..., A, K], objectness [..., A] and deltas [..., A, 4] of outputs [..., A * (K + 5)]."""
    x = logits.reshape(*logits.shape[:-1], -1, num_classes + 5)
    return x[..., :num_classes], x[..., num_classes], x[..., num_classes + 1 :]


def build_window_classifier(
    architecture: WindowArchitecture, num_classes: int, *, pretrained: bool | Path = False, dropout: float = 0.0
) -> Classifier:
    """Return the classifier of single crops of its ``native_hw``, with dense layers.

    Args:
        architecture: what it is built from.
        num_classes: classes, background not counted.
        pretrained: as for ``build_classifier``.
        dropout: rate before the last layer. The layer is there at rate 0 too: names of weights do not depend on it.

    Raises:
        ConfigError: the backbone has no such stride or not so many blocks.
        InvalidInputError: it has layers that see the whole picture.
    """
    source = build_backbone(architecture.backbone, pretrained=pretrained)
    if architecture.stride not in source.strides:
        raise ConfigError(
            f"window stride must be of {source.name}'s {source.strides}, got {architecture.stride}; 8 is the default"
        )
    count = source.strides.index(architecture.stride) + 1
    trunk = Backbone(
        source.name,
        [unpadded(stage) for stage in source.stages[:count]],
        strides=source.strides[:count],
        channels=source.channels[:count],
        normalization=source.normalization,
    )
    blocks = _next_blocks(source, count, architecture.depth)
    field = receptive_field(nn.Sequential(*trunk.stages, blocks))
    rows, columns = architecture.cells_hw
    with torch.no_grad():
        example = torch.zeros(1, source.channels[count - 1], *(receptive_field(blocks).size,) * 2)
        channels = blocks.eval()(example).shape[1]
    outputs = len(architecture.aspects) * (num_classes + 5)
    predict = nn.Linear(architecture.hidden, outputs)
    _start_small(predict, num_classes)
    head = nn.Sequential(
        *blocks,
        nn.Flatten(1),
        nn.Linear(channels * rows * columns, architecture.hidden),
        nn.BatchNorm1d(architecture.hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        predict,
    )
    crop_hw = (field.size + (rows - 1) * field.stride, field.size + (columns - 1) * field.stride)
    return Classifier(trunk, head, num_classes=outputs, native_hw=crop_hw).train()


def _next_blocks(source: Backbone, count: int, depth: int) -> nn.Sequential:
    """Return the first ``depth`` blocks behind the trunk's ``count`` stages, without padding and a trous."""
    available = list(_blocks(nn.Sequential(*source.stages[count : count + 1])))
    if depth > len(available):
        raise ConfigError(
            f"window depth must be at most the {len(available)} blocks of {source.name} behind stride "
            f"{source.strides[count - 1]}, got {depth}; take fewer"
        )
    rewritten = unpadded(nn.Sequential(*available[:depth]), a_trous=True)
    assert isinstance(rewritten, nn.Sequential)
    return rewritten


def _blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks of nested ``nn.Sequential`` in order."""
    if not isinstance(module, nn.Sequential):
        return [module]
    return [block for child in module for block in _blocks(child)]


def _start_small(predict: nn.Linear, num_classes: int) -> None:
    """Start with boxes as the windows are and objectness at its prior, so that background does not drown the start."""
    nn.init.normal_(predict.weight, std=0.01)
    with torch.no_grad():
        predict.bias.zero_()
        predict.bias.view(-1, num_classes + 5)[:, num_classes] = -math.log((1 - PRIOR) / PRIOR)


def joint_logits(class_logits: Tensor, objectness: Tensor) -> Tensor:
    """Return logits [..., K] of objectness times class probability, from class logits [..., K] and objectness [...].

    A window's classes exclude each other (softmax), and each counts only as far as there is an object. The logarithm of
    the product is exact; for one class the result is the objectness itself.
    """
    if class_logits.shape[-1] == 1:
        return objectness[..., None] + 0 * class_logits
    log_p = nn.functional.logsigmoid(objectness)[..., None] + class_logits.log_softmax(dim=-1)
    return log_p - torch.log(-torch.expm1(log_p.clamp(max=-1e-7)))
