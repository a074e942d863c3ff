"""Augmentation of crops of people: what other cameras, detectors and passers-by would have made of them.

Every function takes its random generator, and a change whose setting is 0 draws nothing from it: the pictures of a run
depend on its seed and on what it switches on.
"""

from __future__ import annotations

import cv2
import numpy as np

from vision.training.embedder_config import CropAugmentation
from vision.types import ImageArray

ERASE_ASPECT = (0.3, 3.3)  # height / width, Zhong 2017, section 4.2
BRIGHTNESS, CONTRAST, CHANNEL_GAIN = 0.15, 0.15, 0.07
SHRINK = (1.5, 4.0)  # a person of 32 to 85 pixels' height in a crop of 128


DEFAULT = CropAugmentation()


def augment_crop(
    rng: np.random.Generator, image: ImageArray, fill: ImageArray, augmentation: CropAugmentation = DEFAULT
) -> ImageArray:
    """Return a copy mirrored, moved, recoloured and partly erased at random; ``fill`` [3] is put where nothing is."""
    image = image[:, ::-1] if rng.uniform() < 0.5 else image
    if augmentation.box_jitter:
        image = jitter_box(rng, image, fill, reach=augmentation.box_jitter)
    image = shift_crop(rng, image, fill, reach=augmentation.shift)
    if augmentation.low_resolution and rng.uniform() < augmentation.low_resolution:
        image = lower_resolution(rng, image)
    if augmentation.colour:
        image = jitter_colour(rng, image, strength=augmentation.colour)
    if augmentation.grey and rng.uniform() < augmentation.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)
    if augmentation.erase and rng.uniform() < augmentation.erase:
        image = erase_rectangle(rng, image, fill, area=augmentation.erase_area)
    return image


def shift_crop(
    rng: np.random.Generator, image: ImageArray, fill: ImageArray, *, reach: float = DEFAULT.shift
) -> ImageArray:
    """Return the crop moved by up to ``reach`` of its sides, as a badly placed box would show it."""
    height, width = image.shape[:2]
    reach_y, reach_x = round(height * reach), round(width * reach)
    top, left = int(rng.integers(0, 2 * reach_y + 1)), int(rng.integers(0, 2 * reach_x + 1))
    padded = np.empty((height + 2 * reach_y, width + 2 * reach_x, 3), np.uint8)
    padded[:] = fill
    padded[reach_y : reach_y + height, reach_x : reach_x + width] = image
    return padded[top : top + height, left : left + width]


def jitter_box(rng: np.random.Generator, image: ImageArray, fill: ImageArray, *, reach: float) -> ImageArray:
    """Return what a box shows whose four sides are each moved by up to ``reach`` of the crop, at the crop's size."""
    height, width = image.shape[:2]
    x1, x2 = rng.uniform(-reach, reach, 2) * width + (0, width)
    y1, y2 = rng.uniform(-reach, reach, 2) * height + (0, height)
    zoom_x, zoom_y = width / (x2 - x1), height / (y2 - y1)
    # cv2 counts pixel centres as integers while the box's sides are counted from the crop's corner: hence the halves.
    matrix = np.array([[zoom_x, 0, (0.5 - x1) * zoom_x - 0.5], [0, zoom_y, (0.5 - y1) * zoom_y - 0.5]], np.float64)
    border = tuple(int(value) for value in fill)
    moved = cv2.warpAffine(
        np.ascontiguousarray(image),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(moved, np.uint8)


def lower_resolution(rng: np.random.Generator, image: ImageArray) -> ImageArray:
    """Return the crop as it looks when it was taken with 1.5 to 4 times fewer pixels a side."""
    height, width = image.shape[:2]
    factor = float(np.exp(rng.uniform(*np.log(SHRINK))))
    small_wh = max(1, round(width / factor)), max(1, round(height / factor))
    small = cv2.resize(np.ascontiguousarray(image), small_wh, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def jitter_colour(rng: np.random.Generator, image: ImageArray, *, strength: float = DEFAULT.colour) -> ImageArray:
    """Return the crop with another brightness, contrast and white balance, as another camera would show it."""
    contrast, channels = strength * CONTRAST, strength * CHANNEL_GAIN
    gain = (1 + rng.uniform(-contrast, contrast)) * (1 + rng.uniform(-channels, channels, 3))
    shift = 255 * rng.uniform(-strength * BRIGHTNESS, strength * BRIGHTNESS)
    levels = np.arange(256)[:, None]
    table = np.clip((levels - 127) * gain + 127 + shift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(image), table[None]), np.uint8)


def erase_rectangle(
    rng: np.random.Generator,
    image: ImageArray,
    fill: ImageArray,
    *,
    area: tuple[float, float] = DEFAULT.erase_area,
) -> ImageArray:
    """Return the crop with one random rectangle filled: people are often half hidden (Zhong 2017)."""
    height, width = image.shape[:2]
    pixels = rng.uniform(*area) * height * width
    aspect = float(np.exp(rng.uniform(*np.log(ERASE_ASPECT))))
    tall, wide = min(height, round((pixels * aspect) ** 0.5)), min(width, round((pixels / aspect) ** 0.5))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    erased = image.copy()
    erased[top : top + tall, left : left + wide] = fill
    return erased
