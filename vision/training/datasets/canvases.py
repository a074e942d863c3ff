"""Crops of people set into pictures as a detector would meet them, and the features that its backbone has of them.

Crops alone cannot train the single-pass embedder: in a frame the features of a person see beyond the box, and people
come in all sizes. So crops are pasted at random sizes onto backgrounds, the frozen backbone runs over these canvases,
and what it shows inside slightly misplaced boxes is kept. Each crop is pasted several times, as augmentation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor, from_numpy
from torch.utils.data import Dataset

from vision.errors import InvalidInputError
from vision.reid.roi import pool_maps
from vision.reid.roi_network import GRID
from vision.runtime.feature_maps import MapSource
from vision.runtime.preprocess import resize
from vision.training.augment_crops import jitter_colour
from vision.training.datasets.crops import PICTURE_SUFFIXES, BatchPlan, CropSet
from vision.types import FloatArray, Frame, ImageArray, IntArray

log = logging.getLogger(__name__)

PEOPLE_ON_CANVAS = 24  # tried; those that find no place go onto the next canvas
PLACES_TRIED = 8
LARGEST_OVERLAP = 0.2  # share of the smaller person that may be hidden or hide: people walk in front of each other
ASPECT_JITTER = 0.2  # relative change of the width by height
BOX_JITTER = 0.05  # standard deviation of each side of a box, in sides of it: detectors place boxes about that badly
PLAIN_SHARE = 0.15  # canvases of one colour
CANVASES_AT_ONCE = 4
ERASE_PROBABILITY = 0.4
MOST_BACKGROUNDS = 400


@dataclass(frozen=True, slots=True, eq=False)
class PooledSet:
    """Pooled features float16 [V, N, C, P, Q] of N crops pasted V times, and person_ids int64 [N]."""

    features: np.ndarray
    person_ids: IntArray

    def __len__(self) -> int:
        return len(self.person_ids)


def read_backgrounds(folder: Path | None) -> list[ImageArray]:
    """Return pictures uint8 RGB found below a folder, at most MOST_BACKGROUNDS evenly taken; none for None.

    Raises:
        InvalidInputError: the folder is missing or holds no picture.
    """
    if folder is None:
        return []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    chosen = [
        paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_BACKGROUNDS)).astype(int))
    ]
    pictures = [cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) for path in chosen]
    readable = [np.asarray(picture, np.uint8) for picture in pictures if picture is not None]
    if not readable:
        raise InvalidInputError(
            f"backgrounds must be a folder with pictures, found none below {folder}; leave it out for plain colours",
            path=folder,
        )
    return readable


def pool_training_features(
    source: MapSource,
    crops: CropSet,
    backgrounds: Sequence[ImageArray],
    *,
    variants: int,
    canvas: int,
    heights: tuple[int, int],
    seed: int,
) -> PooledSet:
    """Return the features of all crops, each pasted ``variants`` times; about 20 kB an entry are held in memory.

    Args:
        source: the frozen backbone.
        crops: of the people to learn.
        backgrounds: pictures of any sizes; plain colours if there are none.
        variants: V >= 1.
        canvas: side of the square network input in pixels.
        heights: smallest and largest height of a person on it in pixels, drawn evenly in the logarithm.
        seed: of everything drawn.
    """
    features: np.ndarray | None = None
    for variant in range(variants):
        rng = np.random.default_rng((seed, variant))
        waiting = rng.permutation(len(crops)).tolist()
        while waiting:
            frames: list[Frame] = []
            places: list[tuple[FloatArray, list[int]]] = []
            while waiting and len(frames) < CANVASES_AT_ONCE:
                picture, boxes, rows = compose_canvas(rng, crops, waiting, backgrounds, canvas, heights)
                frames.append(Frame(picture))
                places.append((boxes, rows))
                taken = set(rows)
                waiting = [row for row in waiting if row not in taken]
            for maps, (boxes, rows) in zip(source.extract(frames, long_side=canvas), places, strict=True):
                pooled = pool_maps(maps, jitter_boxes(rng, boxes))
                if features is None:
                    features = np.zeros((variants, len(crops), *pooled.shape[1:]), np.float16)
                features[variant, rows] = pooled
        log.info("pasted %d crops, %d of %d times", len(crops), variant + 1, variants)
    assert features is not None, "a crop set is never empty"
    return PooledSet(features, crops.person_ids)


def compose_canvas(
    rng: np.random.Generator,
    crops: CropSet,
    waiting: Sequence[int],
    backgrounds: Sequence[ImageArray],
    side: int,
    heights: tuple[int, int],
) -> tuple[ImageArray, FloatArray, list[int]]:
    """Return a canvas uint8 [side, side, 3], the boxes float32 [K, 4] of the people on it, and their rows in ``crops``.

    The first of ``waiting`` is always placed.
    """
    canvas = draw_background(rng, backgrounds, side)
    boxes = np.zeros((0, 4), np.float32)
    rows = []
    for row in waiting[:PEOPLE_ON_CANVAS]:
        height = round(float(np.exp(rng.uniform(*np.log(heights)))))
        own = crops.images[row]
        aspect = own.shape[1] / own.shape[0] * (1 + rng.uniform(-ASPECT_JITTER, ASPECT_JITTER))
        size_hw = min(height, side), min(max(1, round(height * aspect)), side)
        corner = _free_place(rng, boxes, size_hw, side)
        if corner is None:
            continue
        y, x = corner
        person = resize(jitter_colour(rng, own[:, ::-1] if rng.uniform() < 0.5 else own), size_hw)
        canvas[y : y + size_hw[0], x : x + size_hw[1]] = person
        boxes = np.concatenate([boxes, np.asarray([[x, y, x + size_hw[1], y + size_hw[0]]], np.float32)])
        rows.append(row)
    return canvas, boxes, rows


def _free_place(
    rng: np.random.Generator, boxes: FloatArray, size_hw: tuple[int, int], side: int
) -> tuple[int, int] | None:
    """Return a random top left corner (y, x) where a box hides little of ``boxes``, or None if none was found."""
    height, width = size_hw
    for _ in range(PLACES_TRIED):
        y, x = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
        overlap = np.minimum(boxes[:, 2:], (x + width, y + height)) - np.maximum(boxes[:, :2], (x, y))
        hidden = np.prod(np.maximum(overlap, 0), axis=1)
        sides = boxes[:, 2:] - boxes[:, :2]
        if (hidden <= LARGEST_OVERLAP * np.minimum(np.prod(sides, axis=1), height * width)).all():
            return y, x
    return None


def draw_background(rng: np.random.Generator, backgrounds: Sequence[ImageArray], side: int) -> ImageArray:
    """Return uint8 [side, side, 3]: a random part of a random picture, mirrored half of the time, or one colour."""
    if not backgrounds or rng.uniform() < PLAIN_SHARE:
        return np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
    picture = backgrounds[int(rng.integers(len(backgrounds)))]
    height, width = picture.shape[:2]
    scale = side / min(height, width)
    covering = resize(picture, (max(side, round(height * scale)), max(side, round(width * scale))))
    y = int(rng.integers(0, covering.shape[0] - side + 1))
    x = int(rng.integers(0, covering.shape[1] - side + 1))
    part = covering[y : y + side, x : x + side]
    return np.array(part[:, ::-1] if rng.uniform() < 0.5 else part)


def jitter_boxes(rng: np.random.Generator, boxes: FloatArray) -> FloatArray:
    """Return boxes [N, 4] with each side moved at random, by BOX_JITTER of the box's size and twice that at most."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = boxes + sides * BOX_JITTER * np.clip(rng.standard_normal(boxes.shape), -2, 2)
    return np.asarray(moved, np.float32)


class PooledDataset(Dataset[tuple[Tensor, Tensor]]):
    """Batches of pooled features: item ``plan`` is float32 [P*K, C, P, Q] and person ids int64 [P*K].

    Each crop comes from one of its canvases; half-hidden people are imitated by rectangles of zeros.
    """

    def __init__(self, pooled: PooledSet) -> None:
        self.pooled = pooled

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, plan: BatchPlan) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(plan.seed)
        rows = np.asarray(plan.indices)
        variants = rng.integers(0, len(self.pooled.features), len(rows))
        batch = self.pooled.features[variants, rows].astype(np.float32)
        for features in batch:
            erase_cells(rng, features)
        return from_numpy(batch), from_numpy(self.pooled.person_ids[rows])


def erase_cells(rng: np.random.Generator, features: FloatArray) -> None:
    """Set a random rectangle of the grid to zero, up to half as tall and wide as it, in some of the cases; in place."""
    if rng.uniform() >= ERASE_PROBABILITY:
        return
    tall, wide = int(rng.integers(1, GRID[0] // 2 + 1)), int(rng.integers(1, GRID[1] // 2 + 1))
    y, x = int(rng.integers(0, GRID[0] - tall + 1)), int(rng.integers(0, GRID[1] - wide + 1))
    features[:, y : y + tall, x : x + wide] = 0
