"""The rows that can be written: objects with an area, in pictures whose size is known."""

from __future__ import annotations

from dataclasses import dataclass

from vision.training.datasets.annotations import BoxRow, PictureAnnotations


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedPicture:
    """One picture with its objects that have an area.

    Attributes:
        entry: as read.
        size_wh: width and height of the upright picture, from its file.
        rows: objects, crowd regions included.
    """

    entry: PictureAnnotations
    size_wh: tuple[int, int]
    rows: tuple[BoxRow, ...]
