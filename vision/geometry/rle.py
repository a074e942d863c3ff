"""Run-length coding of masks and label maps: how segmentation results travel in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError


def encode_label_map(labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return ``{"size_hw", "dtype", "values", "lengths"}`` of an integer map [H, W], runs along rows."""
    flat = labels.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return {
        "size_hw": list(labels.shape),
        "dtype": str(labels.dtype),
        "values": flat[starts].tolist(),
        "lengths": lengths.tolist(),
    }


def decode_label_map(runs: Mapping[str, Any]) -> npt.NDArray[Any]:
    """Return the integer map [H, W] that ``encode_label_map`` was given."""
    height, width = runs["size_hw"]
    lengths = np.asarray(runs["lengths"], np.int64)
    # Checked before np.repeat: forged lengths must not allocate more than the stated size.
    if (lengths < 0).any() or int(lengths.sum()) != height * width:
        raise InvalidInputError(
            f"run lengths must sum to {height} x {width} pixels, got {int(lengths.sum())}; the data is damaged"
        )
    values = np.asarray(runs["values"], np.dtype(runs["dtype"]))
    return np.repeat(values, lengths).reshape(height, width)


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return an uncompressed COCO run-length dict ``{"size": [H, W], "counts"}`` of a mask [H, W].

    COCO runs go down the columns and begin with the number of zeros.
    """
    flat = np.asfortranarray(mask).reshape(-1, order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1] if flat.size else 0]])))
    counts = np.diff(np.concatenate([[0], changes]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def encode_crop(crop: npt.NDArray[np.bool_], corner: tuple[int, int], size_hw: tuple[int, ...]) -> list[int]:
    """Return the COCO run lengths of a mask [H, W] that is all zero but for ``crop``; cost grows with the crop alone.

    Args:
        crop: bool [h, w].
        corner: row and column of its first pixel. size_hw: of the whole mask.

    >>> encode_crop(np.array([[True], [True]]), (1, 1), (4, 3))
    [5, 2, 5]
    """
    height, width = size_hw
    columns, rows = np.nonzero(crop.T)
    flat = (columns + corner[1]) * height + rows + corner[0]
    if not flat.size:
        return [height * width]
    breaks = np.flatnonzero(np.diff(flat) > 1)
    starts, ends = flat[np.concatenate([[0], breaks + 1])], flat[np.concatenate([breaks, [len(flat) - 1]])] + 1
    edges = np.concatenate([[0], np.column_stack([starts, ends]).ravel()])
    counts: list[int] = np.diff(edges).tolist()
    rest = height * width - int(ends[-1])
    return [*counts, rest] if rest else counts


def decode_mask(rle: Mapping[str, Any]) -> npt.NDArray[np.bool_]:
    """Return the mask [H, W] of an uncompressed COCO run-length dict."""
    height, width = rle["size"]
    counts = np.asarray(rle["counts"], np.int64)
    if (counts < 0).any() or int(counts.sum()) != height * width:
        raise InvalidInputError(
            f"run lengths must sum to {height} x {width} pixels, got {int(counts.sum())}; the data is damaged"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(height, width, order="F")


def compress_counts(counts: Sequence[int]) -> str:
    """Return COCO run lengths as the text that pycocotools reads and writes.

    From the fourth on a length is written as its difference to the one two before; each number in groups of five bits,
    lowest first, with a sixth that says whether another group follows, as a character from 48 on.

    >>> compress_counts([6, 1, 40, 4, 5, 4])
    '61X13mN0'
    """
    text = []
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            group = number & 0x1F
            number >>= 5
            # The highest bit of the last group is the sign.
            more = number != -1 if group & 0x10 else number != 0
            text.append(chr((group | 0x20 if more else group) + 48))
    return "".join(text)


def expand_counts(text: str) -> list[int]:
    """Return the run lengths that ``compress_counts`` was given.

    Raises:
        InvalidInputError: the text ends within a number or has a character that cannot be in it.

    >>> expand_counts("61X13mN0")
    [6, 1, 40, 4, 5, 4]
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InvalidInputError(f"compressed run lengths must be characters '0' to 'o', got {character!r}")
        number |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            if group & 0x10:
                number -= 1 << shift
            counts.append(number + counts[-2] if len(counts) > 2 else number)
            number = shift = 0
    if shift:
        raise InvalidInputError("compressed run lengths end within a number; the data is cut short")
    return counts
