"""A segmentation drawn onto its picture: each class in its colour with its border, and a legend of the colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vision.errors import InvalidInputError
from vision.palette import NO_CLASS, mask_palette
from vision.types import ImageArray, SegmentationMap

# A class with a smaller share of the picture is not worth a place in the legend: 86 pixels of 480 x 360.
MIN_SHARE = 0.0005
# The legend covers at most this share of the picture's height.
MAX_LEGEND_SHARE = 0.25
_SMALLEST_FONT = 11
_TEXT_RGB = (240, 240, 240)
# Pictures are counted on a grid of about this diagonal: enough for a share, and fast for large frames.
_COUNTED_DIAGONAL = 1000
_REFERENCE_DIAGONAL = 1469  # of 1280 x 720


def blend_segmentation(
    image: ImageArray, segmentation: SegmentationMap, *, opacity: float = 0.5, borders: bool = True
) -> ImageArray:
    """Return a copy of the RGB image with each class in its colour; background and "other" stay as they are.

    Args:
        image: uint8 [H, W, 3].
        segmentation: of the same height and width.
        opacity: strength of the colours, 0 to 1.
        borders: draw the border of each area as a line in its full colour.

    Raises:
        InvalidInputError: the sizes differ.
    """
    labels = segmentation.labels
    if labels.shape != image.shape[:2]:
        raise InvalidInputError(
            f"a segmentation must have the size of its picture {image.shape[:2]}, got {labels.shape}; "
            "resize the map to the frame"
        )
    # take and copyTo do what indexing does in a third of the time, which a video of large frames feels.
    colours = np.asarray(mask_palette(segmentation.class_names), np.uint8).take(labels, axis=0)
    blended = np.asarray(cv2.addWeighted(image, 1 - opacity, colours, opacity, 0), np.uint8)
    if borders:
        cv2.copyTo(colours, border_pixels(labels).view(np.uint8), blended)
    plain = np.array([name in NO_CLASS for name in segmentation.class_names], np.uint8)
    if plain.any():
        cv2.copyTo(image, plain.take(labels), blended)
    return blended


def border_pixels(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Return which pixels [H, W] lie at the border of their area: on lines one pixel wide on 480 x 360, wider on
    larger pictures."""
    side = max(1, round(1.5 * math.hypot(*labels.shape) / _REFERENCE_DIAGONAL))
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    if side > 1:
        border = cv2.dilate(border.view(np.uint8), np.ones((side, side), np.uint8)).view(bool)
    return border


def classes_shown(segmentation: SegmentationMap) -> list[str]:
    """Return the names of the classes that a picture shows, the largest area first, background and "other" left out."""
    step = max(1, round(math.hypot(*segmentation.labels.shape) / _COUNTED_DIAGONAL))
    counted = segmentation.labels[::step, ::step]
    counts = np.bincount(counted.ravel(), minlength=len(segmentation.class_names))
    names = [segmentation.class_names[label] for label in np.argsort(-counts, kind="stable").tolist()]
    enough = int((counts >= max(1.0, MIN_SHARE * counted.size)).sum())
    return [name for name in names[:enough] if name not in NO_CLASS]


def write_legend(picture: ImageArray, names: Sequence[str], class_names: Sequence[str]) -> None:
    """Write swatches with the names of classes along the lower edge of an RGB picture, in place.

    The strip has as many rows as the names need, within a quarter of the height; of the names that do not fit the
    last are left out, and their number is said. A picture too small for half of the names stays as it is.

    Args:
        picture: uint8 [H, W, 3], writable.
        names: classes to show, the most important first; they are drawn in the order of ``class_names``.
        class_names: of all labels, which decides the colours.
    """
    height, width = picture.shape[:2]
    size = max(_SMALLEST_FONT, round(math.hypot(height, width) / 85))
    font, row_height, pad = _font(size), round(1.45 * size), max(2, size // 2)
    max_rows = int((MAX_LEGEND_SHARE * height - pad) // row_height)
    rows: list[list[tuple[str, int]]] = []
    widths = {name: round(font.getlength(name)) for name in names}
    for kept in range(len(names), len(names) // 2, -1):
        entries = [(name, widths[name]) for name in class_names if name in names[:kept]]
        if kept < len(names):
            left_out = f"+{len(names) - kept}"
            entries.append((left_out, round(font.getlength(left_out))))
        rows = _lay_out(entries, width, size, pad)
        if len(rows) <= max_rows:
            break
    else:
        return
    colours = dict(zip(class_names, mask_palette(class_names), strict=True))
    top = height - len(rows) * row_height - pad
    strip = Image.fromarray(picture[top:] // 4)
    draw = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x, middle = pad, pad / 2 + (number + 0.5) * row_height
        for text, text_width in row:
            if text in colours:
                draw.rectangle((x, middle - 0.4 * size, x + 0.8 * size, middle + 0.4 * size), fill=colours[text])
                x += round(1.2 * size)
            draw.text((x, middle), text, fill=_TEXT_RGB, font=font, anchor="lm")
            x += text_width + size
    picture[top:] = np.asarray(strip)


def _lay_out(entries: Sequence[tuple[str, int]], width: int, size: int, pad: int) -> list[list[tuple[str, int]]]:
    """Return the entries (text and its width in pixels) in rows no wider than the picture; an entry that is wider
    alone has a row of its own."""
    rows: list[list[tuple[str, int]]] = []
    right = width
    for text, text_width in entries:
        needed = text_width + round(2.2 * size)
        if right + needed > width:
            rows.append([])
            right = pad
        rows[-1].append((text, text_width))
        right += needed
    return rows


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, which knows more letters than OpenCV's strokes, at a size in pixels."""
    return ImageFont.load_default(size)
