"""From logits on a coarse grid to a class for every pixel of the original picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from vision.errors import ConfigError, closest_hint
from vision.geometry.letterbox import Letterbox
from vision.segmentation.config import OTHER
from vision.types import FloatArray, SegmentationMap

CHANNELS = 64  # that OpenCV resizes at a time; it knows no more than 128


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


def _resize(maps: FloatArray, size_hw: tuple[int, int], out: FloatArray | None = None) -> FloatArray:
    if maps.shape[:2] == size_hw:
        return maps
    if maps.ndim == 3 and maps.shape[2] > CHANNELS:
        parts = np.split(maps, range(CHANNELS, maps.shape[2], CHANNELS), axis=2)
        return np.concatenate([_resize(np.ascontiguousarray(part), size_hw).reshape(*size_hw, -1) for part in parts], 2)
    scaled = cv2.resize(maps, (size_hw[1], size_hw[0]), dst=out, interpolation=cv2.INTER_LINEAR)
    return np.asarray(scaled, np.float32)


def labels_at_source(logits_Khw: FloatArray, letterbox: Letterbox) -> npt.NDArray[np.uint8]:  # noqa: N803
    """Return what ``labels_of(full_logits(...))`` returns, uint8 [H, W], with one class in memory at a time.

    Four times as fast for a frame of 1080p, whose logits alone would take 90 MB.
    """
    height, width = letterbox.scaled_hw
    plane = np.empty(letterbox.source_hw, np.float32)

    def planes() -> Iterator[FloatArray]:
        for logits in logits_Khw:
            scaled = _resize(np.ascontiguousarray(logits), letterbox.padded_hw)[:height, :width]
            yield _resize(scaled, letterbox.source_hw, out=plane)

    return _largest(planes())


def labels_of(logits_HWK: FloatArray) -> npt.NDArray[np.uint8]:  # noqa: N803
    """Return the class with the largest logit, uint8 [H, W]; the first of equals."""
    return _largest(np.ascontiguousarray(logits_HWK[:, :, index]) for index in range(logits_HWK.shape[2]))


def _largest(planes: Iterator[FloatArray]) -> npt.NDArray[np.uint8]:
    """Return the number of the plane [H, W] with the largest value at each place; planes may share one array.

    A running maximum in OpenCV's vector code: numpy's argmax over a short last axis takes many times as long.
    """
    best = next(planes).copy()
    labels, won = np.zeros(best.shape, np.uint8), np.empty(best.shape, np.uint8)
    for index, plane in enumerate(planes, 1):
        cv2.compare(plane, best, cv2.CMP_GT, dst=won)
        # 255 where the plane wins; its number is above all before it, so the larger one is the winner's.
        # (Not OpenCV's own "and": it takes a picture of one pixel for a scalar.)
        np.bitwise_and(won, np.uint8(index), out=won)
        cv2.max(labels, won, dst=labels)
        cv2.max(best, plane, dst=best)
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

    def read_coarse(self, logits_Khw: FloatArray, letterbox: Letterbox) -> SegmentationMap:  # noqa: N803
        """Return the map of a network's logits [K, h, w] at the size of the original picture."""
        if self.scores:
            return self.read(full_logits(logits_Khw, letterbox))
        return self.read_labels(labels_at_source(logits_Khw, letterbox))

    def read(self, logits_HWK: FloatArray) -> SegmentationMap:  # noqa: N803 - shape suffix
        """Return the map of logits [H, W, K]."""
        result = self.read_labels(labels_of(logits_HWK))
        if not self.scores:
            return result
        scores = probabilities_of(logits_HWK)
        if self._label_of is not None:
            others = result.labels == 0
            scores[others] = summed_probabilities(logits_HWK[others], self._label_of == 0)
        return replace(result, scores=scores)

    def read_labels(self, labels: npt.NDArray[np.uint8]) -> SegmentationMap:
        """Return the map of the network's labels uint8 [H, W], renumbered if only some classes are kept."""
        renumbered = labels if self._label_of is None else np.asarray(self._label_of[labels])
        return SegmentationMap(renumbered, self.output_names)


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
