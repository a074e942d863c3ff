"""The training set of a detector: annotated pictures, augmented anew in each epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from vision.detection.losses import DetectionTarget
from vision.errors import InvalidInputError
from vision.runtime.preprocess import Normalization, normalize
from vision.training.augment import (
    affine_matrix,
    draw_affine,
    jitter_colour,
    mosaic_quadrants,
    warp_boxes,
    warp_image,
)
from vision.training.config import DetectorTrainingConfig
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.types import FloatArray, ImageArray, IntArray

log = logging.getLogger(__name__)

# A quarter of a mosaic shows a picture at this share of the size that it would have alone: smaller objects, more of
# them, and still most of each picture.
MOSAIC_SHRINK = 0.75
LIGHT_COLOUR = 0.5


class DetectionDataset(Dataset[tuple[torch.Tensor, DetectionTarget]]):
    """Augmented training pictures: item ``epoch * len + index`` is float32 [3, S, S] and its target.

    The item number carries the epoch (EpochSampler), so a sample's augmentation depends on nothing but seed, epoch and
    index, and a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self, images: Sequence[AnnotatedImage], config: DetectorTrainingConfig, normalization: Normalization
    ) -> None:
        self.images = list(images)
        self.config = config
        self.normalization = normalization
        red, green, blue = (round(value) for value in normalization.mean)
        self._fill = (red, green, blue)
        self._damaged: set[Path] = set()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, DetectionTarget]:
        epoch, index = divmod(item, len(self.images))
        rng = np.random.default_rng((self.config.seed, epoch, index))
        light = epoch >= self.config.epochs - self.config.light_epochs
        if not light and rng.uniform() < self.config.mosaic:
            image, boxes, labels = self._mosaic(index, rng)
        else:
            side = self.config.image_size
            image, boxes, labels = self._place(
                self.images[index], rng, (side, side), long_side=side, colour=LIGHT_COLOUR if light else 1.0
            )
        target = DetectionTarget(torch.from_numpy(boxes), torch.from_numpy(labels))
        return torch.from_numpy(normalize(image, self.normalization)), target

    def _mosaic(self, index: int, rng: np.random.Generator) -> tuple[ImageArray, FloatArray, IntArray]:
        """Return a square of four pictures, the first of which is ``index``."""
        side = self.config.image_size
        members = [index, *rng.integers(len(self.images), size=3).tolist()]
        canvas = np.empty((side, side, 3), np.uint8)
        boxes, labels = [], []
        for member, (top, left, bottom, right) in zip(members, mosaic_quadrants(rng, side), strict=True):
            part, part_boxes, part_labels = self._place(
                self.images[member], rng, (bottom - top, right - left), long_side=side * MOSAIC_SHRINK
            )
            canvas[top:bottom, left:right] = part
            boxes.append(part_boxes + np.array([left, top, left, top], np.float32))
            labels.append(part_labels)
        return canvas, np.concatenate(boxes), np.concatenate(labels)

    def _place(
        self,
        sample: AnnotatedImage,
        rng: np.random.Generator,
        size_hw: tuple[int, int],
        *,
        long_side: float,
        colour: float = 1.0,
    ) -> tuple[ImageArray, FloatArray, IntArray]:
        """Return one picture warped at random into an area of ``size_hw``, with its boxes and labels."""
        image, boxes, labels = self._load(sample)
        # Colour before the warp: the padding then keeps the exact value that inference pads with.
        image = jitter_colour(rng, image, strength=colour)
        drawn = draw_affine(
            rng,
            (image.shape[0], image.shape[1]),
            output_hw=size_hw,
            long_side=long_side,
            scale_range=self.config.scale_range,
        )
        matrix = affine_matrix(drawn, image.shape[1])
        warped = warp_image(image, matrix, size_hw, fill=self._fill)
        return warped, *warp_boxes(boxes, labels, matrix, size_hw)

    def _load(self, sample: AnnotatedImage) -> tuple[ImageArray, FloatArray, IntArray]:
        """Return a picture with its boxes and labels; one that cannot be decoded is an empty one, told once.

        A run of hours must not end because of it, and its place in the order stays, which resuming relies on.
        """
        try:
            return load_rgb(sample.path), sample.boxes, sample.labels
        except InvalidInputError as exc:
            if sample.path not in self._damaged:
                log.warning("an empty picture is learned instead: %s", exc)
                self._damaged.add(sample.path)
            blank = np.full((self.config.image_size, self.config.image_size, 3), self._fill, np.uint8)
            return blank, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def collate(batch: Sequence[tuple[torch.Tensor, DetectionTarget]]) -> tuple[torch.Tensor, list[DetectionTarget]]:
    """Return images [B,3,S,S] and the list of their targets."""
    return torch.stack([image for image, _ in batch]), [target for _, target in batch]
