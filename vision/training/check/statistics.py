"""Numbers of a data set: objects and pictures of each class, and how large objects are where the network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vision.geometry.boxes import box_area
from vision.training.datasets.annotations import DetectionAnnotations

# COCO's borders between small, medium and large objects, in pixels of the side of a square of the same area.
SMALL_SIDE, LARGE_SIDE = 32, 96
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class ClassStatistics:
    """One class: objects (crowd regions apart), pictures that show it, and the sides of its objects.

    Attributes:
        name: of the class.
        objects, crowds, pictures: counts.
        share: of all objects, in [0, 1].
        side_percentiles: 5th, 50th and 95th percentile of sqrt(width x height) in pixels; empty without objects.
        height_by_width: median of height / width, a first value for ``anchor_ratios``; 0 without objects.
    """

    name: str
    objects: int
    crowds: int
    pictures: int
    share: float
    side_percentiles: tuple[float, ...]
    height_by_width: float


@dataclass(frozen=True, slots=True)
class DataStatistics:
    """The numbers of one part of a data set.

    Attributes:
        pictures, background: all pictures, and those without objects.
        objects: usable boxes with an area, crowd regions apart.
        small, medium, large: how many of them by COCO's borders of 32 and 96 pixels.
        imbalance: objects of the largest class by those of the smallest that has any; 0 without objects.
        classes: in label order.
    """

    pictures: int
    background: int
    objects: int
    small: int
    medium: int
    large: int
    imbalance: float
    classes: tuple[ClassStatistics, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return asdict(self)


def measure(annotations: DetectionAnnotations) -> DataStatistics:
    """Return the numbers of a data set as annotated; faulty boxes without area are not counted."""
    pictures = [picture for picture in annotations.pictures if picture.rows]
    owner = np.repeat(np.arange(len(pictures)), [len(picture.rows) for picture in pictures])
    boxes = np.concatenate([picture.boxes for picture in pictures]) if pictures else np.zeros((0, 4))
    labels = np.concatenate([picture.labels for picture in pictures]) if pictures else np.zeros(0, np.int64)
    crowd = np.concatenate([picture.crowd for picture in pictures]) if pictures else np.zeros(0, np.bool_)
    usable = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    sides = np.sqrt(box_area(boxes[usable & ~crowd]))
    classes = tuple(
        _measure_class(name, boxes[rows & ~crowd], int((rows & crowd).sum()), owner[rows], len(sides))
        for label, name in enumerate(annotations.class_names)
        for rows in [usable & (labels == label)]
    )
    counts = [row.objects for row in classes if row.objects]
    return DataStatistics(
        pictures=len(annotations.pictures),
        background=sum(not picture.rows and not picture.unusable for picture in annotations.pictures),
        objects=len(sides),
        small=int((sides < SMALL_SIDE).sum()),
        medium=int(((sides >= SMALL_SIDE) & (sides < LARGE_SIDE)).sum()),
        large=int((sides >= LARGE_SIDE).sum()),
        imbalance=max(counts) / min(counts) if counts else 0.0,
        classes=classes,
    )


def _measure_class(name: str, boxes: np.ndarray, crowds: int, owner: np.ndarray, total: int) -> ClassStatistics:
    if not len(boxes):
        return ClassStatistics(name, 0, crowds, len(np.unique(owner)), 0.0, (), 0.0)
    size = boxes[:, 2:] - boxes[:, :2]
    return ClassStatistics(
        name,
        objects=len(boxes),
        crowds=crowds,
        pictures=len(np.unique(owner)),
        share=len(boxes) / total,
        side_percentiles=tuple(round(float(side), 1) for side in np.percentile(np.sqrt(box_area(boxes)), PERCENTILES)),
        height_by_width=round(float(np.median(size[:, 1] / size[:, 0])), 3),
    )


def format_statistics(statistics: DataStatistics, *, most: int = 20) -> Sequence[str]:
    """Return the numbers as lines of text; the ``most`` largest classes."""
    lines = [
        f"{statistics.pictures} pictures ({statistics.background} without objects), {statistics.objects} objects: "
        f"{statistics.small} small, {statistics.medium} medium, {statistics.large} large"
    ]
    ranked = sorted(statistics.classes, key=lambda row: -row.objects)
    width = max((len(row.name) for row in ranked[:most]), default=5)
    lines.append(f"  {'class':{width}}  objects  share  pictures  side 5 % / 50 % / 95 %  h/w")
    for row in ranked[:most]:
        sides = " / ".join(f"{side:.0f}" for side in row.side_percentiles) or "-"
        lines.append(
            f"  {row.name:{width}}  {row.objects:7d}  {row.share:5.1%}  {row.pictures:8d}  {sides:>22}  "
            f"{row.height_by_width:.2f}"
        )
    if len(ranked) > most:
        lines.append(f"  ... and {len(ranked) - most} smaller classes")
    if statistics.imbalance >= 10:
        lines.append(f"  the largest class has {statistics.imbalance:.0f} times the objects of the smallest")
    return lines
