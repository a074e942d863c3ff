"""Holding pictures out of training: which ones is decided by their names alone, so every run and machine agrees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vision.errors import InvalidInputError

Item = TypeVar("Item")


def hold_out(items: Sequence[Item], fraction: float, path_of: Callable[[Item], Path]) -> tuple[list[Item], list[Item]]:
    """Return the items to train on and those held out, each in the given order and neither empty.

    An item is held out when the hash of its file name falls below ``fraction``: about that share of them. A picture
    keeps its side when others are added, and so do pictures of one name in different folders.

    Args:
        items: at least two.
        fraction: wanted share of held out items, in (0, 1).
        path_of: gives the path of an item.

    Raises:
        InvalidInputError: fewer than two items.
    """
    if len(items) < 2:
        raise InvalidInputError(
            f"holding pictures out for validation needs at least 2, got {len(items)}; add pictures or give val_data"
        )
    shares = [name_share(path_of(item).name) for item in items]
    held = [share < fraction for share in shares]
    if not any(held) or all(held):
        # A few pictures, or many of one name: the whole path breaks the tie.
        order = sorted(range(len(items)), key=lambda index: (shares[index], str(path_of(items[index]))))
        chosen = set(order[: min(max(1, round(fraction * len(items))), len(items) - 1)])
        held = [index in chosen for index in range(len(items))]
    kept = [item for item, out in zip(items, held, strict=True) if not out]
    return kept, [item for item, out in zip(items, held, strict=True) if out]


def name_share(name: str) -> float:
    """Return a number in [0, 1) that depends on the name alone and is spread evenly over names.

    >>> round(name_share("000000000139.jpg"), 4)
    0.1377
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) / 2**64
