"""Upsampling by transposed convolution, which begins as bilinear interpolation (Long 2015, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.errors import ConfigError


def bilinear_kernel(factor: int) -> Tensor:
    """Return the kernel float32 [k, k] that interpolates by ``factor``, k = 2 factor - factor % 2.

    >>> bilinear_kernel(2)[0].tolist()
    [0.0625, 0.1875, 0.1875, 0.0625]
    """
    if factor < 1:
        raise ConfigError(f"a factor of upsampling must be >= 1, got {factor}; 1 changes nothing")
    size = 2 * factor - factor % 2
    centre = factor - 0.5 if size % 2 == 0 else factor - 1.0
    line = 1 - (torch.arange(size, dtype=torch.float32) - centre).abs() / factor
    return torch.outer(line, line)


class Upsampling(nn.Module):
    """Enlarges maps [B, C, h, w] to [B, C, factor h, factor w], each channel by itself.

    Outside the map lie zeros, so values fade over the last half cell; all channels alike, which leaves the largest one
    where it was.

    Args:
        channels: C.
        factor: >= 1.
        learnable: train the kernels, one a channel; otherwise they stay bilinear and are no weights.
    """

    def __init__(self, channels: int, factor: int, *, learnable: bool = False) -> None:
        super().__init__()
        self.factor = factor
        kernels = bilinear_kernel(factor).expand(channels, 1, -1, -1).clone()
        self.padding = (kernels.shape[-1] - factor) // 2
        if learnable:
            self.weight = nn.Parameter(kernels)
        else:
            self.register_buffer("weight", kernels, persistent=False)

    def forward(self, maps_BChw: Tensor) -> Tensor:  # noqa: N803 - shape suffix
        """Return the enlarged maps."""
        if self.factor == 1:
            return maps_BChw
        weight = self.weight
        return F.conv_transpose2d(maps_BChw, weight, stride=self.factor, padding=self.padding, groups=weight.shape[0])
