"""What a segmentation says of each track: its pixels, and the surface it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.geometry.rle import coded_size, compress_counts, decode_mask, encode_crop, expand_counts
from vision.validation import describe


@dataclass(frozen=True, slots=True, eq=False)
class TrackRegions:
    """Pixels and surface of each row of a frame's Tracks.

    Attributes:
        owners: int32 [H, W], the row of the track that a pixel belongs to, -1 for none; so no pixel belongs to two.
        surfaces: a class name for each row: what is under its feet; None where that cannot be told.
    """

    owners: npt.NDArray[np.int32]
    surfaces: tuple[str | None, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "surfaces", tuple(self.surfaces))
        owners = self.owners
        if owners.ndim != 2 or owners.dtype != np.int32:
            raise InvalidInputError(f"owners must be int32 [H, W], got {describe(owners)}; pass rows of the tracks")
        if owners.size and not -1 <= int(owners.min()) <= int(owners.max()) < len(self.surfaces):
            raise InvalidInputError(
                f"owners must be -1 or rows of {len(self.surfaces)} tracks, got {int(owners.min())} to "
                f"{int(owners.max())}; give a surface (or None) for each track"
            )

    def __len__(self) -> int:
        return len(self.surfaces)

    def mask(self, row: int) -> npt.NDArray[np.bool_]:
        """Return the pixels bool [H, W] of one track."""
        return np.asarray(self.owners == row)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data: the surfaces, and of each track its mask as COCO's compressed run lengths, or None
        where it has no pixel."""
        size = list(self.owners.shape)
        masks: list[dict[str, Any] | None] = [None] * len(self)
        # Where each track's pixels lie, in one pass over the picture and not one for each.
        rows, columns = np.nonzero(self.owners >= 0)
        owners = self.owners[rows, columns]
        for row in np.unique(owners).tolist():
            mine = owners == row
            top, left = int(rows[mine].min()), int(columns[mine].min())
            crop = self.owners[top : int(rows[mine].max()) + 1, left : int(columns[mine].max()) + 1] == row
            masks[row] = {"size": size, "counts": compress_counts(encode_crop(crop, (top, left), self.owners.shape))}
        return {"size_hw": size, "surfaces": list(self.surfaces), "masks": masks}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """Rebuild the value that ``to_dict`` wrote.

        Raises:
            InvalidInputError: run lengths that do not fill the picture, a picture larger than any that is read, or not
                one mask (or None) a surface.
        """
        height, width = coded_size(row["size_hw"])
        masks, surfaces = row["masks"], tuple(row["surfaces"])
        if len(masks) != len(surfaces):
            raise InvalidInputError(
                f"regions must have a surface and a mask for each track, got {len(surfaces)} and {len(masks)}; the "
                "data is damaged"
            )
        owners = np.full((height, width), -1, np.int32)
        for number, mask in enumerate(masks):
            if mask is None:
                continue
            if list(mask["size"]) != [height, width]:
                raise InvalidInputError(
                    f"a track's mask must have the size of its frame, {height} x {width}, got {mask['size']}; the data "
                    "is damaged"
                )
            owners[decode_mask({"size": mask["size"], "counts": expand_counts(mask["counts"])})] = number
        return cls(owners, surfaces)
