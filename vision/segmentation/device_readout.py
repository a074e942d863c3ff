"""From logits on a coarse grid to a class for every pixel of the original picture, on the device.

The rules are those of ``readout.labels_at_source``: bilinear to the padded input, the padding cut off, bilinear to the
picture, the first of equals. Weights are floats on both sides, so the borders between classes agree but for pixels at
which two logits are equal to the last digit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vision.geometry.letterbox import Letterbox

# Logits of one picture that are enlarged at a time, 256 MB: 32 classes of a picture of 1080p, one class of one of 48
# megapixels. Smaller blocks would launch more kernels for the same picture.
MOST_VALUES = 2**26


def labels_at_source(logits_Khw: Tensor, letterbox: Letterbox, *, most_values: int = MOST_VALUES) -> Tensor:  # noqa: N803
    """Return the class with the largest logit, uint8 [H, W] of the original picture; the first of equals.

    Args:
        logits_Khw: [K, h, w] of any float type, the padded input at any stride; K at most 256.
        letterbox: how the picture became that input.
        most_values: enlarged at a time, but one class at least.
    """
    pixels = max(math.prod(letterbox.padded_hw), math.prod(letterbox.source_hw))
    classes = max(1, most_values // pixels)
    best, labels = _largest(logits_Khw[:classes], letterbox)
    for first in range(classes, len(logits_Khw), classes):
        values, places = _largest(logits_Khw[first : first + classes], letterbox)
        labels = torch.where(values > best, places + first, labels)
        best = torch.maximum(best, values)
    return labels


def _largest(logits_Khw: Tensor, letterbox: Letterbox) -> tuple[Tensor, Tensor]:  # noqa: N803 - shape suffix
    """Return the largest of some classes float32 [H, W] and which of them has it, uint8 [H, W]."""
    height, width = letterbox.scaled_hw
    # Class by class in memory: a network in channels_last leaves them pixel by pixel, and the maximum reads planes.
    planes = _resize(logits_Khw.float().contiguous(), letterbox.padded_hw)[:, :height, :width]
    values, places = _resize(planes, letterbox.source_hw).max(dim=0)
    return values, places.to(torch.uint8)


def _resize(planes_Khw: Tensor, size_hw: tuple[int, int]) -> Tensor:  # noqa: N803 - shape suffix
    if planes_Khw.shape[1:] == size_hw:
        return planes_Khw
    return F.interpolate(planes_Khw[None], size_hw, mode="bilinear", align_corners=False)[0]
