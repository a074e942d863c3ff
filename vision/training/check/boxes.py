"""Faults of the boxes of one picture, found from coordinates and the picture's size alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vision.geometry.boxes import box_area, clip_boxes
from vision.geometry.iou import pairwise_iou
from vision.training.datasets.annotations import BoxArray, PictureAnnotations
from vision.training.datasets.findings import Finding

# Tools round to a pixel on either side; more than that, and more than a hundredth of the side, is a mistake.
MARGIN_PIXELS = 2.0
MARGIN_SHARE = 0.01
SAME_BOX_IOU = 0.95
WHOLE_PICTURE = 0.99
_SHOWN = 3


def check_boxes(picture: PictureAnnotations, size_wh: tuple[int, int] | None) -> Iterator[Finding]:
    """Yield the faults of a picture's boxes; without its size, those that need none.

    Args:
        picture: its annotations.
        size_wh: width and height of the upright picture, None if it cannot be read.
    """
    boxes = picture.boxes
    if not len(boxes):
        return
    if lies_in_unit_square(boxes, size_wh):
        found = f"the {len(boxes)} boxes of {picture.name} lie in 0..1, first {_text(boxes[0])}"
        fix = "multiply x and width by the picture's width, y and height by its height; the format wants pixels"
        yield Finding("error", "boxes-in-0-1", picture.source, found, fix, picture.path)
        return
    flat = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    if flat.any():
        found = f"{picture.name}: {_places(picture, flat)} without area"
        yield Finding(
            "error", "degenerate-box", picture.source, found, "give x1 < x2 and y1 < y2, or remove it", picture.path
        )
    if size_wh is not None:
        yield from _check_place(picture, boxes, flat, size_wh)
    yield from _check_twins(picture, boxes, flat)


def lies_in_unit_square(boxes: BoxArray, size_wh: tuple[int, int] | None) -> bool:
    """Return whether all boxes [N, 4] seem to be shares of the picture where pixels are meant.

    Reading VOC takes 1 off the left and upper border, hence the absolute value.
    """
    tiny = size_wh is not None and min(size_wh) <= 2
    return bool(len(boxes) and not tiny and np.abs(boxes).max() <= 1.0)


def _check_place(
    picture: PictureAnnotations, boxes: BoxArray, flat: np.ndarray, size_wh: tuple[int, int]
) -> Iterator[Finding]:
    """Yield boxes outside the picture, beyond its border, and as large as it."""
    width, height = size_wh
    cut = clip_boxes(boxes, (height, width))
    outside = ~flat & ((cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1]))
    margin = np.maximum(MARGIN_PIXELS, MARGIN_SHARE * np.asarray([width, height, width, height]))
    beyond = ~flat & ~outside & (np.abs(cut - boxes) > margin).any(axis=1)
    size = f"{width} x {height}"
    if outside.any():
        found = f"{picture.name}: {_places(picture, outside)} outside the picture of {size}"
        fix = "correct or remove it; check that picture and annotations belong together"
        yield Finding("error", "box-outside", picture.source, found, fix, picture.path)
    if beyond.any():
        found = f"{picture.name}: {_places(picture, beyond)} beyond the border of the picture of {size}"
        fix = "it is cut at the border in training; check that the picture was not resized after it was annotated"
        yield Finding("warning", "box-beyond-border", picture.source, found, fix, picture.path)
    whole = ~flat & (box_area(cut) >= WHOLE_PICTURE * width * height)
    if whole.any():
        found = f"{picture.name}: {_places(picture, whole)} covering the whole picture of {size}"
        yield Finding(
            "note", "huge-box", picture.source, found, "nothing to do if the object fills the picture", picture.path
        )


def _check_twins(picture: PictureAnnotations, boxes: BoxArray, flat: np.ndarray) -> Iterator[Finding]:
    """Yield pairs of nearly equal boxes, of one class or of two."""
    usable = np.flatnonzero(~flat & ~picture.crowd)
    overlap = np.triu(pairwise_iou(boxes[usable], boxes[usable]), k=1)
    labels = picture.labels[usable]
    same: list[str] = []
    other: list[str] = []
    for first, second in np.argwhere(overlap >= SAME_BOX_IOU).tolist():
        pair = f"{picture.rows[usable[first]].place} and {picture.rows[usable[second]].place}"
        (same if labels[first] == labels[second] else other).append(pair)
    if same:
        found = f"{picture.name}: {len(same)} objects marked twice: {_listed(same)}"
        yield Finding("warning", "duplicate-box", picture.source, found, "remove one of each two", picture.path)
    if other:
        found = f"{picture.name}: {len(other)} objects with two classes: {_listed(other)}"
        yield Finding(
            "note", "two-classes", picture.source, found, "keep one class, unless both are meant", picture.path
        )


def _places(picture: PictureAnnotations, chosen: np.ndarray) -> str:
    """Return "2 boxes (line 3: 1, 2, 3, 4; line 7: ...)" for the chosen rows."""
    rows = [f"{row.place}: {_text(row.box)}" for row, is_chosen in zip(picture.rows, chosen, strict=True) if is_chosen]
    return f"{len(rows)} {'box' if len(rows) == 1 else 'boxes'} ({_listed(rows, '; ')})"


def _listed(texts: list[str], separator: str = ", ") -> str:
    return separator.join(texts[:_SHOWN]) + (f"{separator}..." if len(texts) > _SHOWN else "")


def _text(box: tuple[float, ...] | BoxArray) -> str:
    return "x1 y1 x2 y2 " + " ".join(f"{value:.4g}" for value in box)
