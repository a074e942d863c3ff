"""Anchor boxes: one box shape a cell and level by default, and the coding of boxes as deltas to them (Girshick 2014,
appendix C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vision.errors import ConfigError

# exp() of a wild size delta overflows; this bound lets a box grow to 62 times its anchor (the constant of Fast R-CNN's
# code).
MAX_SIZE_DELTA = math.log(1000.0 / 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorConfig:
    """Shapes of the anchors.

    Attributes:
        strides: feature levels, ascending.
        scale: side of a square anchor in cells; an anchor of stride s is scale * s pixels large.
        ratios: height / width of the anchors of a cell.
        octaves: sizes of each ratio, 2^(i / octaves) times the scale for i = 0, 1... (RetinaNet has 3).
        between: one more square, sqrt(2) times the scale: between this level's and the next (SSD).
    """

    strides: tuple[int, ...] = (8, 16, 32, 64)
    scale: float = 4.0
    ratios: tuple[float, ...] = (1.8,)
    octaves: int = 1
    between: bool = False

    def __post_init__(self) -> None:
        if list(self.strides) != sorted(set(self.strides)) or not self.strides:
            raise ConfigError(
                f"anchor strides must ascend without repeats, got {self.strides}; (8, 16, 32, 64) is the default"
            )
        if self.scale <= 0 or not self.ratios or min(self.ratios) <= 0:
            raise ConfigError(f"anchor scale and ratios must be > 0, got {self.scale} and {self.ratios}")
        if self.octaves < 1:
            raise ConfigError(f"anchor octaves must be >= 1, got {self.octaves}; 1 is one size a ratio")

    @property
    def shapes(self) -> tuple[tuple[float, float], ...]:
        """Scale in cells and ratio of each anchor of a cell, in the order of the head's outputs."""
        sizes = [self.scale * 2 ** (octave / self.octaves) for octave in range(self.octaves)]
        shapes = [(size, ratio) for ratio in self.ratios for size in sizes]
        return (*shapes, (self.scale * math.sqrt(2), 1.0)) if self.between else tuple(shapes)


@dataclass(frozen=True, slots=True)
class Anchors:
    """All anchors of one input size.

    Attributes:
        boxes: float32 [A, 4] xyxy pixels of the network input, level by level, row by row.
        counts: anchors of each level; they sum to A.
    """

    boxes: Tensor
    counts: tuple[int, ...]


def make_anchors(config: AnchorConfig, size_hw: tuple[int, int], device: torch.device | None = None) -> Anchors:
    """Return the anchors for a network input of ``size_hw``, in the order in which the head flattens its outputs."""
    levels = []
    for stride in config.strides:
        rows, columns = -(-size_hw[0] // stride), -(-size_hw[1] // stride)
        y, x = torch.meshgrid(
            (torch.arange(rows, device=device) + 0.5) * stride,
            (torch.arange(columns, device=device) + 0.5) * stride,
            indexing="ij",
        )
        scales, ratios = torch.tensor(config.shapes, device=device).unbind(dim=1)  # [R] each
        # The area stays (scale * stride)^2 whatever the ratio, so a level keeps its object size.
        half_w = scales * stride / ratios.sqrt() / 2
        half_h = scales * stride * ratios.sqrt() / 2
        half = torch.stack([half_w, half_h], dim=-1)  # [R, 2]
        centre = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)  # [cells, 1, 2]
        levels.append(torch.cat([centre - half, centre + half], dim=-1).reshape(-1, 4))
    return Anchors(torch.cat(levels), tuple(len(level) for level in levels))


def encode_boxes(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return deltas [..., 4] (dx, dy in anchor sizes, log size ratios) of xyxy boxes of positive size relative to
    anchors."""
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    size = boxes[..., 2:] - boxes[..., :2]
    shift = ((boxes[..., 2:] + boxes[..., :2]) - (anchors[..., 2:] + anchors[..., :2])) / 2 / anchor_size
    return torch.cat([shift, (size / anchor_size).log()], dim=-1)


def decode_boxes(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Return xyxy boxes [..., 4] of deltas relative to anchors [..., 4] or broadcastable; the inverse of
    ``encode_boxes``."""
    anchor_size = anchors[..., 2:] - anchors[..., :2]
    centre = (anchors[..., 2:] + anchors[..., :2]) / 2 + deltas[..., :2] * anchor_size
    half = deltas[..., 2:].clamp(max=MAX_SIZE_DELTA).exp() * anchor_size / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def anchor_config_from(mapping: dict[str, Any]) -> AnchorConfig:
    """Return the config stored in a model card."""
    return AnchorConfig(
        strides=tuple(mapping["strides"]),
        scale=float(mapping["scale"]),
        ratios=tuple(float(r) for r in mapping["ratios"]),
        octaves=int(mapping.get("octaves", 1)),
        between=bool(mapping.get("between", False)),
    )
