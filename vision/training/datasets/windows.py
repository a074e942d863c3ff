"""Training patches of the sliding-window detector: parts of pictures, scaled so that objects fit the windows.

A patch holds a grid of windows, and all of them are trained. Most patches are centred on an object (with jitter in
place and scale), the others on background: anywhere, or on a false positive that an earlier state of the network made
(bootstrapping, Dalal and Triggs 2005, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch.utils.data import Dataset

from vision.detection.window_losses import WindowTarget
from vision.detection.window_network import WindowGeometry
from vision.runtime.preprocess import Normalization, normalize
from vision.training.augment import AffineParameters, affine_matrix, jitter_colour, warp_image
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.training.window_config import WindowTrainingConfig
from vision.types import FloatArray, ImageArray, IntArray

SCALE_JITTER = 0.4  # octaves either way; half a step of a pyramid of two levels an octave is 0.25
SHIFT_JITTER = 0.4  # share of the patch's grid of windows
NO_BOXES = np.zeros((0, 4), np.float32)
MOST_MINED = 20_000  # false positives kept; older ones leave first


class PictureCache:
    """Decoded pictures in memory, up to a limit; decoding costs more than all the rest of a sample."""

    def __init__(self, limit_mb: int) -> None:
        self.free = limit_mb * 1_000_000
        self._pictures: dict[Path, ImageArray] = {}

    def load(self, path: Path) -> ImageArray:
        """Return the picture uint8 [H, W, 3], which must not be changed."""
        image = self._pictures.get(path)
        if image is None:
            image = load_rgb(path)
            if image.nbytes <= self.free:
                self.free -= image.nbytes
                self._pictures[path] = image
        return image


class WindowPatches(Dataset[tuple[torch.Tensor, WindowTarget]]):
    """Patches float32 [3, h, w] with their objects; item ``epoch * len + index`` is one patch of picture ``index``.

    What a patch shows depends on seed, epoch, index and the mined false positives alone, so a resumed run sees what an
    uninterrupted one would have seen.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        config: WindowTrainingConfig,
        geometry: WindowGeometry,
        normalization: Normalization,
        cache: PictureCache | None = None,
    ) -> None:
        self.images = list(images)
        self.config = config
        self.normalization = normalization
        span = (config.patch_windows - 1) * geometry.stride
        self.patch_hw = (geometry.crop_hw[0] + span, geometry.crop_hw[1] + span)
        self.jitter = SHIFT_JITTER * span
        self.cache = PictureCache(config.cache_mb) if cache is None else cache
        red, green, blue = (round(value) for value in normalization.mean)
        self._fill = (red, green, blue)
        self.mined_pictures: IntArray = np.zeros(0, np.int64)
        self.mined_boxes: FloatArray = np.zeros((0, 4), np.float32)

    def __len__(self) -> int:
        return len(self.images)

    def set_mined(self, pictures: IntArray, boxes: FloatArray) -> None:
        """Replace the false positives: picture numbers int64 [M] and boxes float32 [M, 4] in pixels of the picture."""
        self.mined_pictures, self.mined_boxes = pictures[-MOST_MINED:], boxes[-MOST_MINED:]

    def __deepcopy__(self, memo: object) -> Self:
        """Weight averaging copies the task; the pictures can be shared."""
        return self

    def __getitem__(self, item: int) -> tuple[torch.Tensor, WindowTarget]:
        epoch, index = divmod(item, len(self.images))
        rng = np.random.default_rng((self.config.seed, epoch, index))
        sample = self.images[index]
        image = self.cache.load(sample.path)
        centre, scale = self._draw_place(rng, index, (image.shape[0], image.shape[1]))
        flip = bool(rng.uniform() < 0.5)
        x = image.shape[1] - centre[0] if flip else centre[0]
        shift = (self.patch_hw[1] / 2 - scale * x, self.patch_hw[0] / 2 - scale * centre[1])
        matrix = affine_matrix(AffineParameters(scale, shift, flip), image.shape[1])
        # Colour before the warp: the padding then keeps the exact value that inference pads with.
        patch = warp_image(jitter_colour(rng, image), matrix, self.patch_hw, fill=self._fill)
        target = WindowTarget(
            torch.from_numpy(_warp(sample.boxes, matrix)),
            torch.from_numpy(sample.labels),
            torch.from_numpy(_warp(NO_BOXES if sample.crowd_boxes is None else sample.crowd_boxes, matrix)),
        )
        return torch.from_numpy(normalize(patch, self.normalization)), target

    def _draw_place(
        self, rng: np.random.Generator, index: int, size_hw: tuple[int, int]
    ) -> tuple[tuple[float, float], float]:
        """Return the point (x, y) of the picture that becomes the patch's centre, and the scale."""
        largest = self.config.long_side / max(size_hw)
        smallest = min(largest, self.config.size / max(size_hw))
        boxes = self.images[index].boxes
        if not len(boxes) or rng.uniform() >= self.config.object_share:
            boxes = self.mined_boxes[self.mined_pictures == index]
            if not len(boxes) or rng.uniform() >= self.config.mined_share:
                y, x = rng.uniform(0, size_hw)
                return (float(x), float(y)), float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        x1, y1, x2, y2 = boxes[rng.integers(len(boxes))].tolist()
        fitting = self.config.size / max(1.0, ((x2 - x1) * (y2 - y1)) ** 0.5)
        jitter = 2 ** rng.uniform(-SCALE_JITTER, SCALE_JITTER)
        # No larger than inference will show it: what is too small there is too small here.
        scale = float(np.clip(fitting, smallest, largest)) * jitter
        move_x, move_y = rng.uniform(-self.jitter, self.jitter, 2) / scale
        return ((x1 + x2) / 2 + move_x, (y1 + y2) / 2 + move_y), scale


def _warp(boxes: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return xyxy boxes [N, 4] in pixels of the patch, neither cut to it nor left out."""
    corners = boxes.reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
    warped = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return np.asarray(warped, np.float32).reshape(-1, 4)


def collate(batch: Sequence[tuple[torch.Tensor, WindowTarget]]) -> tuple[torch.Tensor, list[WindowTarget]]:
    """Return patches [B,3,h,w] and the list of their targets."""
    return torch.stack([patch for patch, _ in batch]), [target for _, target in batch]
