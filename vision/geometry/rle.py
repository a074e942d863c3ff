"""Run-length coding of masks and label maps: how segmentation results travel in JSON."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.validation import MAX_PIXELS, describe

# Bits of one number in compressed run lengths; no picture has longer runs.
_MAX_SHIFT = 60
# Groups of five bits of a number that is written; no picture has 2**34 pixels. From the limits on one more is needed.
_GROUP_SHIFTS = 5 * np.arange(7)
_GROUP_LIMITS = 1 << (_GROUP_SHIFTS[:-1] + 4)


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
    """Return the integer map [H, W] that ``encode_label_map`` was given.

    Raises:
        InvalidInputError: lengths that do not fill the picture, a picture of more than MAX_PIXELS, or values that are
            not as many integers of the dtype.
    """
    lengths, size_hw = _checked_runs(runs["lengths"], runs["size_hw"])
    try:
        dtype = np.dtype(runs["dtype"])
        values = np.asarray(runs["values"], dtype)
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidInputError(f"run values must be integers of their dtype, got {exc}; the data is damaged") from exc
    if dtype.kind not in "iu" or values.shape != lengths.shape:
        raise InvalidInputError(
            f"run values must be {len(lengths)} integers, one a length, got {dtype} {values.shape}; the data is damaged"
        )
    return np.repeat(values, lengths).reshape(size_hw)


def coded_size(size: Any) -> tuple[int, int]:
    """Return height and width as coded data states them, so that forged ones allocate no more than a picture takes.

    Raises:
        InvalidInputError: not two integers >= 0, or more than MAX_PIXELS together.
    """
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height = width = -1
    if min(height, width) < 0 or height * width > MAX_PIXELS:
        raise InvalidInputError(
            f"the size of coded pixels must be a height and a width with at most {MAX_PIXELS} pixels, got {size!r}; "
            "the data is damaged"
        )
    return height, width


def _checked_runs(lengths: Any, size: Any) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Return run lengths int64 [N] that fill the picture, and its height and width."""
    height, width = coded_size(size)
    pixels = height * width
    try:
        found = np.asarray(lengths)
    except ValueError:
        found = np.zeros((0, 0))
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InvalidInputError(f"run lengths must be a list of integers, got {describe(found)}; the data is damaged")
    # Each for itself before their sum, which would wrap, and before np.repeat, which believes them.
    outside = found[(found < 0) | (found > pixels)]
    total = int(outside[0]) if outside.size else int(found.sum())
    if outside.size or total != pixels:
        raise InvalidInputError(
            f"run lengths must sum to {height} x {width} pixels, got {total}{' in one' if outside.size else ''}; the "
            "data is damaged"
        )
    return found.astype(np.int64), (height, width)


def encode_mask(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Return an uncompressed COCO run-length dict ``{"size": [H, W], "counts"}`` of a mask [H, W].

    COCO runs go down the columns and begin with the number of zeros.
    """
    flat = np.asfortranarray(mask).reshape(-1, order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1] if flat.size else 0]])))
    counts = np.diff(np.concatenate([[0], changes]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


def encode_classes(
    labels: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[npt.NDArray[np.int32]]]:
    """Return the labels that occur in a map [H, W], their pixels, and the COCO run lengths of each one's mask.

    Each entry is what ``encode_mask`` gives of ``labels == label``; the map is gone over once and not once a class.

    >>> encode_classes(np.array([[7, 2], [7, 7]]))
    (array([2, 7]), array([1, 3]), [array([2, 1, 1], dtype=int32), array([0, 2, 1, 1], dtype=int32)])
    """
    flat = labels.T.reshape(-1)
    breaks = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = np.concatenate([[0], breaks]), np.concatenate([breaks, [flat.size]])
    values, owners = np.unique(flat[starts] if flat.size else flat, return_inverse=True)
    order = np.argsort(owners, kind="stable")
    runs = np.split(order, np.cumsum(np.bincount(owners, minlength=len(values)))[:-1]) if flat.size else []
    areas, counts = np.zeros(len(values), np.int64), []
    for place, own in enumerate(runs):
        edges = np.column_stack([starts[own], ends[own]]).ravel()
        areas[place] = (ends[own] - starts[own]).sum()
        rest = [] if edges[-1] == flat.size else [flat.size]
        counts.append(np.diff(np.concatenate([[0], edges, rest])).astype(np.int32))
    return values.astype(np.int64), areas, counts


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
    """Return the mask [H, W] of an uncompressed COCO run-length dict.

    Raises:
        InvalidInputError: counts that do not fill the picture, or a picture of more than MAX_PIXELS.
    """
    counts, size_hw = _checked_runs(rle["counts"], rle["size"])
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(size_hw, order="F")


def compress_counts(counts: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
    """Return COCO run lengths as the text that pycocotools reads and writes.

    From the fourth on a length is written as its difference to the one two before; each number in groups of five bits,
    lowest first, with a sixth that says whether another group follows, as a character from 48 on.

    >>> compress_counts([6, 1, 40, 4, 5, 4])
    '61X13mN0'
    """
    lengths = np.asarray(counts, np.int64)
    numbers = lengths.copy()
    numbers[3:] -= lengths[1:-2]
    size = np.where(numbers < 0, -1 - numbers, numbers)
    # Of each number; the highest bit of the last group is the sign.
    groups = 1 + (size[:, None] >= _GROUP_LIMITS).sum(axis=1)
    places = np.arange(len(_GROUP_SHIFTS))
    values = (numbers[:, None] >> _GROUP_SHIFTS) & 0x1F
    values |= np.where(places < groups[:, None] - 1, 0x20, 0)
    text: bytes = (values[places < groups[:, None]] + 48).astype(np.uint8).tobytes()
    return text.decode("ascii")


def expand_counts(text: str) -> list[int]:
    """Return the run lengths that ``compress_counts`` was given.

    Raises:
        InvalidInputError: the text ends within a number, has one that no picture needs, or a character that cannot be
            in it.

    >>> expand_counts("61X13mN0")
    [6, 1, 40, 4, 5, 4]
    """
    counts: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InvalidInputError(
                f"compressed run lengths must be characters '0' to 'o', got {character!r}; pass the counts of a COCO "
                "mask as pycocotools writes them"
            )
        # Each further group would make the number, and the time for it, grow without end.
        if shift > _MAX_SHIFT:
            raise InvalidInputError(
                f"compressed run lengths must be numbers below 2**{_MAX_SHIFT}, got a longer one; the data is damaged"
            )
        number |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            if group & 0x10:
                number -= 1 << shift
            counts.append(number + counts[-2] if len(counts) > 2 else number)
            number = shift = 0
    if shift:
        raise InvalidInputError(
            "compressed run lengths must end with a number, got a part of one; the data is cut short, write it again"
        )
    return counts
