"""Names of shards in braces, as WebDataset writes them: ``train-{000..099}.tar`` stands for a hundred names."""

from __future__ import annotations

import re
from itertools import product

from vision.errors import InvalidInputError

_BRACES = re.compile(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 1_000_000


def has_braces(pattern: str) -> bool:
    """Return whether a pattern has something in braces that can be expanded."""
    return _BRACES.search(pattern) is not None


def expand_braces(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in its order.

    >>> expand_braces("train-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar']
    >>> expand_braces("{a,b}/{1..2}.jpg")
    ['a/1.jpg', 'a/2.jpg', 'b/1.jpg', 'b/2.jpg']
    """
    # Every second piece stood in braces.
    pieces = _BRACES.split(pattern)
    total = 1
    choices: list[list[str]] = []
    for index, piece in enumerate(pieces):
        found = _RANGE.fullmatch(piece) if index % 2 else None
        count = 1 + max(0, int(found[2]) - int(found[1])) if found and len(piece) < 40 else 1
        total *= max(count, piece.count(",") + 1 if index % 2 else 1)
        if total > _MOST or (found and len(piece) >= 40):
            raise InvalidInputError(
                f"braces may stand for at most {_MOST} names, {pattern} stands for more; split the job",
                expected=f"<= {_MOST} names",
            )
        choices.append(_choices(piece, found) if index % 2 else [piece])
    return ["".join(parts) for parts in product(*choices)]


def _choices(piece: str, found: re.Match[str] | None) -> list[str]:
    if found is None:
        return piece.split(",")
    first, last = found.groups()
    # Zeros in front, as in the shell: all are as long as the longer end.
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) else 0
    return [str(number).zfill(width) for number in range(int(first), int(last) + 1)]
