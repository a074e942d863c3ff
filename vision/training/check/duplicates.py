"""Pictures that are in a data set twice, byte for byte or nearly: within a part, and across training and validation.

Nearly equal pictures are found by their difference hash: 64 bits, each telling whether a picture shrunk to 9 x 8 grey
cells grows brighter from one cell to its right neighbour. It hardly changes when a picture is scaled or compressed
anew. Pictures with few bits apart are compared once more by a thumbnail, because flat ones have hashes of pure noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vision.types import ImageArray

HashArray = npt.NDArray[np.uint64]
THUMBNAIL_SIDE = 16
# Measured on 766 COCO pictures (longest side 416): saved anew as JPEG of quality 50 to 90 at 0.25 to 1.7 times the size
# they are at most 10 bits and 2.2 grey levels apart. Of 292,995 pairs of different pictures, none is below 13 levels.
MAX_BITS = 10
MAX_LEVELS = 5.0
_BLOCK = 1024


def file_digest(path: Path) -> bytes:
    """Return a digest of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def difference_hash(image: ImageArray) -> int:
    """Return the 64-bit difference hash of an RGB picture uint8 [H, W, 3]."""
    cells = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes())


def thumbnail(image: ImageArray) -> ImageArray:
    """Return the picture shrunk to grey uint8 [16, 16], whatever its aspect."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def group_equal(digests: Sequence[bytes]) -> list[list[int]]:
    """Return the groups of two and more positions with one digest, in the order of their first position."""
    groups: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(hashes: Sequence[int], thumbnails: Sequence[ImageArray]) -> Iterator[tuple[int, int]]:
    """Yield (first, second) positions of pictures that look alike, first < second.

    Compares all pairs in blocks: 10,000 pictures take less than a second, and the time grows with the square.
    """
    codes = np.asarray(hashes, np.uint64)
    small = np.asarray(thumbnails, np.int16).reshape(len(codes), THUMBNAIL_SIDE**2)
    for start in range(0, len(codes), _BLOCK):
        block = codes[start : start + _BLOCK]
        apart = count_bits(block[:, None] ^ codes[None, start:])
        rows, columns = np.nonzero(apart <= MAX_BITS)
        for row, column in zip((rows + start).tolist(), (columns + start).tolist(), strict=True):
            if row < column and np.abs(small[row] - small[column]).mean() <= MAX_LEVELS:
                yield row, column


def count_bits(words: HashArray) -> npt.NDArray[np.uint8]:
    """Return the number of set bits of each word."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words), np.uint8)
    pairs = words.view(np.uint16).reshape(*words.shape, 4)
    return np.asarray(_BITS_OF_16[pairs].sum(axis=-1), np.uint8)


def join_pairs(pairs: Iterator[tuple[int, int]] | Sequence[tuple[int, int]], count: int) -> list[list[int]]:
    """Return the groups of positions that pairs connect, each sorted, in the order of their first position.

    >>> join_pairs([(0, 3), (3, 4), (1, 2)], 6)
    [[0, 3, 4], [1, 2]]
    """
    parent = list(range(count))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in pairs:
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for index in range(count):
        groups.setdefault(root(index), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


_BITS_OF_16 = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    axis=1, dtype=np.uint8
)
