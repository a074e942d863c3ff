"""The data sets of a segmenter: random parts of pictures with their masks, or whole ones as at inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from torch import Tensor, from_numpy
from torch.utils.data import Dataset

from vision.runtime.preprocess import Normalization, normalize
from vision.training.augment import affine_matrix, draw_affine, jitter_colour, warp_image
from vision.training.datasets.mask_layouts import MaskedPicture
from vision.training.datasets.masks import Labels, MaskFormat, read_mask
from vision.training.datasets.pictures import load_rgb
from vision.training.segmenter_config import SegmenterTrainingConfig
from vision.types import FloatArray


class MaskedParts(Dataset[tuple[Tensor, Tensor]]):
    """Augmented samples: item ``epoch * len + index`` is float32 [3, H, W] and labels int64 [H, W].

    The item number carries the epoch (EpochSampler), so a sample's augmentation depends on nothing but seed, epoch and
    index, and a resumed run sees what an uninterrupted one would have seen.
    """

    def __init__(
        self,
        pairs: Sequence[MaskedPicture],
        form: MaskFormat,
        normalization: Normalization,
        config: SegmenterTrainingConfig,
    ) -> None:
        self.pairs = list(pairs)
        self.form = form
        self.normalization = normalization
        self.config = config
        red, green, blue = (round(value) for value in normalization.mean)
        self.fill = (red, green, blue)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: int) -> tuple[Tensor, Tensor]:
        epoch, index = divmod(item, len(self.pairs))
        pair, config = self.pairs[index], self.config
        rng = np.random.default_rng((config.seed, epoch, index))
        image, labels = load_rgb(pair.image), read_mask(pair.mask, self.form)
        size_hw = (image.shape[0], image.shape[1])
        drawn = draw_affine(
            rng,
            size_hw,
            output_hw=config.crop_hw,
            long_side=config.long_side or max(size_hw),
            scale_range=config.scale_range,
        )
        matrix = affine_matrix(drawn if config.flip else replace(drawn, flip=False), size_hw[1])
        image = warp_image(image, matrix, config.crop_hw, fill=self.fill)
        labels = warp_labels(labels, matrix, config.crop_hw, ignore=config.ignore)
        if config.colour:
            image = jitter_colour(rng, image, strength=config.colour)
        return from_numpy(normalize(image, self.normalization)), from_numpy(labels.astype(np.int64))


def warp_labels(labels: Labels, matrix: FloatArray, size_hw: tuple[int, int], *, ignore: int) -> Labels:
    """Return the mask warped as ``warp_image`` warps its picture, uint8 [H, W]; ``ignore`` outside of it.

    The nearest pixel counts: between two classes lies no third.
    """
    centred = matrix.astype(np.float64)
    centred[:, 2] += centred[:, :2] @ np.array([0.5, 0.5]) - 0.5
    warped = cv2.warpAffine(
        labels, centred, size_hw[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=ignore
    )
    return np.asarray(warped, np.uint8)
