"""Augmentation of detection pictures: random zoom, shift and flip in one affine warp, colour in HSV, mosaics of four
pictures (Bochkovskiy 2020, section 3.3).

Every function takes its random generator, so one sample's picture depends on (seed, epoch, index) alone, whatever the
number of worker processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vision.types import FloatArray, ImageArray, IntArray

HUE_SHIFT, SATURATION_GAIN, VALUE_GAIN = 0.015, 0.6, 0.4
MIN_VISIBLE = 0.3  # an object of which less remains in the crop is not asked for
MIN_SIDE = 2.0  # pixels; smaller boxes are below what stride 8 can place


@dataclass(frozen=True, slots=True)
class AffineParameters:
    """One drawn transform: zoom factor, shift in pixels of the output, mirrored or not."""

    zoom: float
    shift_xy: tuple[float, float]
    flip: bool


def draw_affine(
    rng: np.random.Generator,
    size_hw: tuple[int, int],
    *,
    output_hw: tuple[int, int],
    long_side: float,
    scale_range: tuple[float, float],
) -> AffineParameters:
    """Draw a transform of a picture into an area of ``output_hw``; zoom 1 makes its longer side ``long_side`` pixels.

    A picture smaller than the area lands anywhere inside; a larger one shows any part of itself.
    """
    low, high = np.log(scale_range)
    zoom = float(np.exp(rng.uniform(low, high))) * long_side / max(size_hw)
    slack_x, slack_y = output_hw[1] - size_hw[1] * zoom, output_hw[0] - size_hw[0] * zoom
    return AffineParameters(zoom, (slack_x * rng.uniform(), slack_y * rng.uniform()), bool(rng.uniform() < 0.5))


def affine_matrix(parameters: AffineParameters, width: int) -> FloatArray:
    """Return the 2x3 matrix that maps continuous picture coordinates to the output area."""
    zoom, (shift_x, shift_y) = parameters.zoom, parameters.shift_xy
    if parameters.flip:
        return np.asarray([[-zoom, 0, shift_x + width * zoom], [0, zoom, shift_y]], np.float32)
    return np.asarray([[zoom, 0, shift_x], [0, zoom, shift_y]], np.float32)


def warp_image(
    image: ImageArray, matrix: FloatArray, size_hw: tuple[int, int], *, fill: tuple[int, int, int]
) -> ImageArray:
    """Return the picture warped into uint8 [H, W, 3]; ``fill`` is the colour outside the picture."""
    # cv2 counts pixel centres as integers while our coordinates start at the corner: move by half a pixel on both ends.
    centred = matrix.astype(np.float64)
    centred[:, 2] += centred[:, :2] @ np.array([0.5, 0.5]) - 0.5
    zoom = abs(float(matrix[0, 0]))
    if zoom < 0.6:
        # Bilinear sampling below about half size skips pixels; blur first as area averaging would.
        kernel = max(1, round(1 / zoom))
        image = np.asarray(cv2.blur(image, (kernel, kernel)), np.uint8)
    return np.asarray(
        cv2.warpAffine(
            image, centred, size_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
        ),
        np.uint8,
    )


def warp_boxes(
    boxes: FloatArray, labels: IntArray, matrix: FloatArray, size_hw: tuple[int, int]
) -> tuple[FloatArray, IntArray]:
    """Return the boxes [M, 4] and labels [M] still visible in an area of ``size_hw``, clipped to it."""
    corners = boxes.reshape(-1, 2, 2) @ matrix[:, :2].T + matrix[:, 2]
    warped = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    clipped = np.clip(warped, 0, (size_hw[1], size_hw[0]) * 2)
    size, full = clipped[:, 2:] - clipped[:, :2], warped[:, 2:] - warped[:, :2]
    kept = (size.min(axis=1) >= MIN_SIDE) & (size.prod(axis=1) >= MIN_VISIBLE * full.prod(axis=1))
    return clipped[kept].astype(np.float32), labels[kept]


def jitter_colour(rng: np.random.Generator, image: ImageArray, *, strength: float = 1.0) -> ImageArray:
    """Return the picture with hue shifted and saturation and value scaled by random amounts; strength 1 is the
    largest."""
    hue, saturation, value = rng.uniform(-1, 1, 3) * (HUE_SHIFT, SATURATION_GAIN, VALUE_GAIN) * strength
    levels = np.arange(256)
    tables = np.stack(
        [
            (levels + hue * 180) % 180,
            np.clip(levels * (1 + saturation), 0, 255),
            np.clip(levels * (1 + value), 0, 255),
        ],
        axis=-1,
    ).astype(np.uint8)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), tables[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def mosaic_quadrants(rng: np.random.Generator, side: int) -> list[tuple[int, int, int, int]]:
    """Return the four areas (top, left, bottom, right) of a square cut at a random point near its middle."""
    cut_y, cut_x = (round(side * rng.uniform(0.3, 0.7)) for _ in range(2))
    return [
        (top, left, bottom, right)
        for top, bottom in ((0, cut_y), (cut_y, side))
        for left, right in ((0, cut_x), (cut_x, side))
    ]
