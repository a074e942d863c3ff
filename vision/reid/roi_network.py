"""The network of the single-pass embedder: a detector's feature maps cut at boxes to unit-norm appearance vectors.

Legend of shape suffixes: N boxes, C channels, H and W cells of a map, P and Q rows and columns of the pooled grid,
S stripes, D dimensions of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from vision.errors import ConfigError
from vision.reid.network import POOL_FLOOR, POOL_POWER

# Rows and columns of the pooled grid: those of a person 128 pixels tall on a map of stride 16.
GRID = (8, 4)
GRID_STRIDE = 16
# Finer maps are pooled to twice the grid at most: what a 128 pixel person has at stride 8.
FINEST_FACTOR = 2
SAMPLES = 2  # points along each side of a bin, averaged
STRIPES = 4  # head and shoulders, trunk, legs, feet of an upright person


def pool_boxes(maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor) -> Tensor:
    """Return what maps show inside boxes as one tensor [N, C, P, Q] (RoIAlign, He 2017, section 3).

    Cells of finer maps are laid side by side as channels, so that all maps have the same grid.

    Args:
        maps: [1, C_i, H_i, W_i] each.
        strides: input pixels for one cell of each map, at most 16.
        boxes: float [N, 4] xyxy in pixels of the network input; may reach over its border, where nothing is seen.
    """
    pooled = []
    for feature, stride in zip(maps, strides, strict=True):
        factor = grid_factor(stride)
        grid = (GRID[0] * factor, GRID[1] * factor)
        cut = roi_align(
            feature, [boxes], output_size=grid, spatial_scale=1 / stride, sampling_ratio=SAMPLES, aligned=True
        )
        pooled.append(F.pixel_unshuffle(cut, factor) if factor > 1 else cut)
    return torch.cat(pooled, dim=1)


def grid_factor(stride: int) -> int:
    """Return how many times finer than GRID a map of this stride is pooled."""
    if stride > GRID_STRIDE:
        raise ConfigError(f"boxes are pooled from maps of stride {GRID_STRIDE} or less, got {stride}; take finer maps")
    return min(FINEST_FACTOR, GRID_STRIDE // stride)


def pooled_channels(channels: Sequence[int], strides: Sequence[int]) -> int:
    """Return the channels C of ``pool_boxes`` for maps of these channels and strides."""
    return sum(count * grid_factor(stride) ** 2 for count, stride in zip(channels, strides, strict=True))


class RoiEmbeddingNetwork(nn.Module):
    """Pooled features [N, C, P, Q] to embeddings: a mix of all maps, residual separable blocks, stripes, a neck.

    The backbone below is a detector's and was never asked who somebody is, so the head is given what its features still
    hold: fine and coarse maps together, and one vector for each horizontal stripe of the body (Sun 2018, "Beyond part
    models"), since where a colour is tells people apart. The neck is that of ``EmbeddingNetwork``.

    Attributes:
        channels: C. dim: D. width: channels inside. depth: residual blocks.
    """

    def __init__(self, channels: int, *, dim: int = 128, width: int = 192, depth: int = 2) -> None:
        super().__init__()
        if min(dim, width, channels) < 1 or depth < 0:
            raise ConfigError(
                f"channels, dim and width must be >= 1 and depth >= 0, got {channels}, {dim}, {width} and {depth}; "
                "128, 192 and 2 are the defaults of the last three"
            )
        self.channels = channels
        self.dim = dim
        # The maps end in linear bottlenecks of very different scales.
        self.scale = nn.BatchNorm2d(channels)
        self.mix = _conv_norm(channels, width)
        self.blocks = nn.ModuleList(_separable(width) for _ in range(depth))
        self.projection = nn.Linear(width * STRIPES, dim, bias=False)
        self.neck = nn.BatchNorm1d(dim)
        # As in EmbeddingNetwork: cosine similarity has its centre at the origin.
        self.neck.bias.requires_grad_(False)

    def features(self, pooled_NCPQ: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
        """Return the features before and after the neck, both [N, D] and not normalised; training needs the two."""
        x = F.relu6(self.mix(self.scale(pooled_NCPQ)))
        for block in self.blocks:
            x = F.relu6(x + block(x))
        raw_ND = self.projection(stripe_means(x).flatten(1))
        return raw_ND, self.neck(raw_ND)

    def forward(self, pooled_NCPQ: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return unit-norm embeddings [N, D]."""
        return F.normalize(self.features(pooled_NCPQ)[1], dim=1)


def stripe_means(x_NCPQ: Tensor) -> Tensor:  # noqa: N803 - shape suffix
    """Return the power mean [N, C, S] of each horizontal stripe (see ``generalised_mean``); P is a multiple of S."""
    count, channels, rows, columns = x_NCPQ.shape
    powers = x_NCPQ.clamp(min=POOL_FLOOR).pow(POOL_POWER)
    return powers.reshape(count, channels, STRIPES, rows // STRIPES * columns).mean(dim=3).pow(1 / POOL_POWER)


def _conv_norm(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a 1x1 convolution with batch norm."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out))


def _separable(width: int) -> nn.Sequential:
    """Return depthwise 3x3 and pointwise convolutions with batch norm; the last has no activation."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
        *_conv_norm(width, width),
    )
