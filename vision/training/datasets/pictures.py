"""The annotated pictures that training and evaluation work on, and reading their pixels."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError, MediaError
from vision.geometry.boxes import clip_boxes
from vision.io.image_header import ImageHeader, read_image_header
from vision.io.images import decode_image
from vision.types import FloatArray, ImageArray, IntArray

log = logging.getLogger(__name__)

BoolArray = npt.NDArray[np.bool_]
AreaArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedImage:
    """One picture of a data set with its objects.

    Attributes:
        path: the picture.
        image_id: unique in its data set: COCO's id, else the position from 1.
        boxes: float32 [N, 4] xyxy pixels of the upright picture.
        labels: int64 [N].
        unmarked: the picture also shows wanted objects without a usable box (crowds), so it is no background.
        difficult: bool [N], objects that VOC's evaluation does not count; None for none.
        crowd_boxes, crowd_labels: float32 [C, 4] and int64 [C], regions of many objects (COCO's iscrowd), in which
            evaluation should not count a detection as false; None for none.
        areas: float64 [N], square pixels of each object as the annotations state them (COCO: of its outline), which
            decide whether it is small, medium or large; NaN where not stated, None for none.
    """

    path: Path
    image_id: int
    boxes: FloatArray
    labels: IntArray
    unmarked: bool = False
    difficult: BoolArray | None = None
    crowd_boxes: FloatArray | None = None
    crowd_labels: IntArray | None = None
    areas: AreaArray | None = None


def load_rgb(path: Path) -> ImageArray:
    """Return a picture as upright RGB uint8 [H, W, 3], decoded as at inference; raises InvalidInputError naming it."""
    try:
        return decode_image(path.read_bytes(), source=str(path))
    except (OSError, InvalidInputError) as exc:
        raise InvalidInputError(
            f"the picture {path} cannot be read: {exc}; remove it from the annotations or mend it "
            "(stride32 data check finds all such pictures)",
            path=path,
        ) from exc


def read_headers(paths: Iterable[Path]) -> dict[Path, ImageHeader | MediaError]:
    """Return the head of each image file, or the error that reading it gave; each path is read once."""
    headers: dict[Path, ImageHeader | MediaError] = {}
    for path in paths:
        if path not in headers:
            try:
                headers[path] = read_image_header(path)
            except MediaError as exc:
                headers[path] = exc
    return headers


def readable_images(
    images: Sequence[AnnotatedImage], headers: Mapping[Path, ImageHeader | MediaError] | None = None
) -> list[AnnotatedImage]:
    """Return the pictures that are there and whole by their header, with boxes cut to the picture.

    The others are reported by name and skipped, and so are boxes that lie wholly outside. No pixel is decoded: a
    picture that is damaged inside is found by ``stride32 data check``.

    Args:
        images: pictures of a data set.
        headers: the heads of at least these pictures if they are at hand (``read_headers``); read here otherwise.

    Raises:
        InvalidInputError: no picture is left.
    """
    known = read_headers(image.path for image in images) if headers is None else headers
    kept = []
    for image in images:
        header = known[image.path]
        if isinstance(header, MediaError):
            log.warning("skipped %s: not a readable picture (%s)", image.path, header)
        else:
            kept.append(_cut_to_picture(image, header.size_wh[::-1]))
    if not kept:
        raise InvalidInputError(
            f"none of {len(images)} training pictures can be read, first: {images[0].path if images else 'no entry'}; "
            "put the pictures where the annotations say, or correct their names in the annotations (docs/data.md)",
            path=images[0].path if images else None,
        )
    return kept


def decodable_images(images: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Return the pictures that decode whole; the others are reported and skipped.

    Validation pictures are decoded once before a run, about 5 ms each: one that is damaged would end the run at its
    first validation.

    Raises:
        InvalidInputError: no picture is left.
    """

    def error_of(image: AnnotatedImage) -> InvalidInputError | None:
        try:
            load_rgb(image.path)
        except InvalidInputError as exc:
            return exc
        return None

    with ThreadPoolExecutor() as pool:
        errors = list(pool.map(error_of, images))
    for error in errors:
        if error is not None:
            log.warning("skipped: %s", error)
    whole = [image for image, error in zip(images, errors, strict=True) if error is None]
    if images and not whole:
        raise InvalidInputError(f"none of {len(images)} validation pictures can be decoded: {errors[0]}")
    return whole


def _cut_to_picture(image: AnnotatedImage, size_hw: tuple[int, int]) -> AnnotatedImage:
    """Return the picture with boxes inside it; rounding often leaves a border a pixel outside."""
    boxes = clip_boxes(image.boxes, size_hw)
    if np.array_equal(boxes, image.boxes):
        return image
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not inside.all():
        log.warning("skipped %d boxes of %s that lie outside the picture", int((~inside).sum()), image.path)
    return replace(
        image,
        boxes=boxes[inside].astype(np.float32),
        labels=image.labels[inside],
        unmarked=image.unmarked or not inside.all(),
        difficult=None if image.difficult is None else image.difficult[inside],
        areas=None if image.areas is None else image.areas[inside],
    )
