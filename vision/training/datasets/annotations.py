"""Detection annotations as a file states them, before classes are chosen: what readers of each format return.

Converters and checks work on these; training and evaluation on the AnnotatedImage made of them (detection.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vision.training.datasets.findings import Finding
from vision.training.datasets.pictures import BoolArray
from vision.types import IntArray

Format = Literal["coco", "voc", "yolo"]
Part = Literal["all", "train", "val"]
BoxArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class BoxRow:
    """One object as its file states it.

    Attributes:
        box: (x1, y1, x2, y2) in pixels, not cut to the picture.
        label: index into the class names.
        place: where it stands in its file, in words: "annotation 17", "object 2", "line 3".
        crowd: a region of many objects (COCO's iscrowd).
        difficult, truncated: VOC's flags.
        extra: other fields of a COCO row (segmentation, area, keypoints), kept for the way back to COCO.
    """

    box: tuple[float, float, float, float]
    label: int
    place: str
    crowd: bool = False
    difficult: bool = False
    truncated: bool = False
    extra: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PictureAnnotations:
    """One picture of a data set and all objects that its annotations state.

    Attributes:
        path: where the picture is looked for.
        name: its name in the data set, with forward slashes: COCO's file_name, or the path below the pictures' folder.
        image_id: unique in the data set.
        source: the file that holds the annotations: the JSON file, the XML file, the label file.
        declared_wh: width and height as the annotations state them, None if they do not.
        rows: the objects with a usable class and four finite numbers.
        unusable: number of objects that were left out because they have not.
        extra: other fields of a COCO image row.
    """

    path: Path
    name: str
    image_id: int
    source: Path
    declared_wh: tuple[int, int] | None
    rows: tuple[BoxRow, ...]
    unusable: int = 0
    extra: Mapping[str, Any] | None = None

    @property
    def boxes(self) -> BoxArray:
        """Float64 [N, 4] xyxy pixels of ``rows``."""
        return np.asarray([row.box for row in self.rows], np.float64).reshape(-1, 4)

    @property
    def labels(self) -> IntArray:
        """Class indices int64 [N] of ``rows``."""
        return np.asarray([row.label for row in self.rows], np.int64)

    @property
    def crowd(self) -> BoolArray:
        """Bool [N]: which rows are crowd regions."""
        return np.asarray([row.crowd for row in self.rows], np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class DetectionAnnotations:
    """A whole data set, or one part of it.

    Attributes:
        format: how it is stored. path: what the user gave.
        source: the file that names the classes: the JSON file, data.yaml, classes.txt; the folder for VOC.
        class_names: in label order: COCO by category id, VOC sorted by name, YOLO by index.
        pictures: in the order of the file; sorted by name where there is no file.
        findings: faults met while reading; the rows concerned are left out.
        category_ids: COCO's id of each class name; empty for others.
        extra: other lists of a COCO file (info, licenses).
    """

    format: Format
    path: Path
    source: Path
    class_names: tuple[str, ...]
    pictures: tuple[PictureAnnotations, ...]
    findings: tuple[Finding, ...] = ()
    category_ids: tuple[int, ...] = ()
    extra: Mapping[str, Any] | None = None

    @property
    def object_count(self) -> int:
        """Number of usable objects, crowd regions included."""
        return sum(len(picture.rows) for picture in self.pictures)


def is_usable(box: Sequence[float]) -> bool:
    """Return whether four corner coordinates are finite and enclose an area."""
    x1, y1, x2, y2 = box
    return bool(np.isfinite((x1, y1, x2, y2)).all() and x2 > x1 and y2 > y1)
