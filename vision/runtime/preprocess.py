"""The one preprocessing of Stride32: resize, letterbox, normalise. Training, evaluation, CLI, HTTP and export all come
through here.

Its exact inverse for boxes is `Letterbox.to_source`. The padding has the value that normalises to the mean, so it
carries no edge in colour that the network was not trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vision.geometry.letterbox import Letterbox
from vision.types import FloatArray, ImageArray


@dataclass(frozen=True, slots=True)
class Normalization:
    """Constants that a network's weights were trained with: ``(x - mean) / std`` on RGB values in [0, 255]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def resize(image: ImageArray, size_hw: tuple[int, int]) -> ImageArray:
    """Return uint8 [h, w, 3] scaled to ``size_hw``: area average when shrinking (no aliasing), bilinear when
    growing."""
    if image.shape[:2] == size_hw:
        return image
    shrinks = size_hw[0] * size_hw[1] < image.shape[0] * image.shape[1]
    kernel = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size_hw[1], size_hw[0]), interpolation=kernel), np.uint8)


def normalize(image: ImageArray, normalization: Normalization) -> FloatArray:
    """Return float32 [3, H, W] of an RGB picture uint8 [H, W, 3]."""
    # One multiply-add a channel written straight into its plane; a transpose of the float picture costs three times as
    # much.
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel, (mean, std) in enumerate(zip(normalization.mean, normalization.std, strict=True)):
        np.multiply(image[:, :, channel], np.float32(1 / std), out=planes[channel])
        planes[channel] -= np.float32(mean / std)
    return planes


def preprocess(image: ImageArray, letterbox: Letterbox, normalization: Normalization) -> FloatArray:
    """Return the network input float32 [3, H, W] of a picture uint8 [h, w, 3], H and W as the letterbox says."""
    height, width = letterbox.scaled_hw
    scaled = normalize(resize(image, letterbox.scaled_hw), normalization)
    if letterbox.padded_hw == letterbox.scaled_hw:
        return scaled
    padded = np.zeros((3, *letterbox.padded_hw), np.float32)
    padded[:, :height, :width] = scaled
    return padded
