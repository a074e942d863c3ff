"""From logits on a coarse grid to a class for every pixel of the original picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vision.geometry.letterbox import Letterbox
from vision.types import FloatArray


def full_logits(logits_Khw: FloatArray, letterbox: Letterbox) -> FloatArray:  # noqa: N803 - shape suffix
    """Return logits float32 [H, W, K] of the original picture from those of the padded network input.

    Bilinear: on the grid that a fixed transposed convolution of FCN fills, its classes are the same (that one fades
    towards the border, all classes alike). The padding is cut off before the last step, so it reaches no pixel but
    through the network.

    Args:
        logits_Khw: float32 [K, h, w], the padded input at any stride.
        letterbox: how the picture became that input.
    """
    maps = np.ascontiguousarray(logits_Khw.transpose(1, 2, 0))
    maps = _resize(maps, letterbox.padded_hw)
    height, width = letterbox.scaled_hw
    return _resize(maps[:height, :width], letterbox.source_hw)


def _resize(maps: FloatArray, size_hw: tuple[int, int]) -> FloatArray:
    if maps.shape[:2] == size_hw:
        return maps
    scaled = cv2.resize(maps, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(scaled, np.float32)


def labels_of(logits_HWK: FloatArray) -> npt.NDArray[np.uint8]:  # noqa: N803
    """Return the class with the largest logit, uint8 [H, W]; the first of equals.

    A running maximum over the classes: numpy's argmax over a short last axis takes three times as long.
    """
    best = np.ascontiguousarray(logits_HWK[:, :, 0])
    labels = np.zeros(best.shape, np.uint8)
    for index in range(1, logits_HWK.shape[2]):
        logit = np.ascontiguousarray(logits_HWK[:, :, index])
        labels[logit > best] = index
        np.maximum(best, logit, out=best)
    return labels


def probabilities_of(logits_HWK: FloatArray) -> FloatArray:  # noqa: N803
    """Return the softmax probability float32 [H, W] of the largest logit."""
    highest = logits_HWK.max(axis=2, keepdims=True)
    return np.asarray(1 / np.exp(logits_HWK - highest).sum(axis=2), np.float32)
