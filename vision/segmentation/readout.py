"""From logits on a coarse grid to a class for every pixel of the original picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vision.errors import ConfigError, closest_hint
from vision.geometry.letterbox import Letterbox
from vision.segmentation.config import OTHER
from vision.types import FloatArray, SegmentationMap


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


def summed_probabilities(logits_NK: FloatArray, chosen: npt.NDArray[np.bool_]) -> FloatArray:  # noqa: N803
    """Return float32 [N]: the softmax probabilities of the ``chosen`` classes bool [K] together."""
    shares = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return np.asarray(shares[:, chosen].sum(axis=1) / shares.sum(axis=1), np.float32)


class Reading:
    """What becomes of logits: labels, with the classes that are wanted, and probabilities if asked for.

    Args:
        class_names: of the logits' channels.
        kept: classes that keep their pixels, labelled 1, 2, ... in this order; all others are label 0, "other". Empty
            keeps all under their own numbers.
        scores: whether a map has the probability of each pixel's class; that of "other" is the sum over its classes.

    Raises:
        ConfigError: a kept class that is none, or twice.
    """

    def __init__(self, class_names: Sequence[str], *, kept: Sequence[str] = (), scores: bool = False) -> None:
        check_classes(kept, class_names)
        self.output_names = (OTHER, *kept) if kept else tuple(class_names)
        self.scores = scores
        self._label_of: npt.NDArray[np.uint8] | None = None
        if kept:
            self._label_of = np.array([kept.index(name) + 1 if name in kept else 0 for name in class_names], np.uint8)

    def read(self, logits_HWK: FloatArray) -> SegmentationMap:  # noqa: N803 - shape suffix
        """Return the map of logits [H, W, K]."""
        labels = labels_of(logits_HWK)
        scores = probabilities_of(logits_HWK) if self.scores else None
        if self._label_of is not None:
            labels = np.asarray(self._label_of[labels])
            if scores is not None:
                others = labels == 0
                scores[others] = summed_probabilities(logits_HWK[others], self._label_of == 0)
        return SegmentationMap(labels, self.output_names, scores)


def check_classes(kept: Sequence[str], class_names: Sequence[str]) -> None:
    """Raise ConfigError unless each of ``kept`` is a class of the model, named once."""
    for name in kept:
        if name not in class_names:
            raise ConfigError(
                f"segmentation.classes must be classes of the model, got {name!r}{closest_hint(name, class_names)}; it "
                f"knows {', '.join(class_names)}"
            )
    if len(set(kept)) < len(kept):
        raise ConfigError(f"segmentation.classes must differ, got {', '.join(kept)}; leave the doubled name out")
