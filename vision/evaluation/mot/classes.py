"""Which classes of the ground truth are scored, each apart or all as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vision.errors import InvalidInputError, closest_hint
from vision.evaluation.mot.files import PERSON, UNKNOWN, GroundTruth, Rows

ALL = "all"


@dataclass(frozen=True, slots=True)
class Group:
    """Classes that are scored as one.

    Attributes:
        classes: their numbers; None is the benchmark's own rule.
        by_class: whether results of other classes are left out.
        title: what to call it beside other groups; empty for the only one.
    """

    classes: tuple[int, ...] | None = None
    by_class: bool = False
    title: str = ""


def choose_groups(
    truths: Mapping[str, GroundTruth], tracked: Mapping[str, Rows], wanted: Sequence[str] | None
) -> tuple[list[Group], list[str]]:
    """Return what is scored, and sentences about what the user may not expect.

    Raises:
        InvalidInputError: a class that no ground truth has, or results of other classes under the benchmark's rule.
    """
    if wanted is None and all(truth.is_benchmark or not truth.has_classes for truth in truths.values()):
        _refuse_other_classes(truths, tracked)
        return [Group()], []
    names = {number: name for truth in truths.values() for number, name in truth.class_names.items()}
    present = _present(truths)
    chosen = present if wanted is None or list(wanted) == [ALL] else _numbers(wanted, present, names)
    if not all((rows[:, 6] != UNKNOWN).all() for rows in tracked.values()):
        note = "the results have no classes: the chosen classes are scored as one"
        return [Group(tuple(chosen))], [note] if len(chosen) > 1 else []
    if len(chosen) == 1:
        return [Group(tuple(chosen), by_class=True)], []
    groups = [Group((number,), True, f"[{names.get(number, f'class {number}')}]") for number in chosen]
    return groups, []


def _refuse_other_classes(truths: Mapping[str, GroundTruth], tracked: Mapping[str, Rows]) -> None:
    """Refuse results of other classes where the benchmark scores people: they would all be false."""
    for name, truth in truths.items():
        found = np.setdiff1d(tracked[name][:, 6], (UNKNOWN, PERSON))
        if truth.is_benchmark and len(found):
            raise InvalidInputError(
                f"results of {name} must be people (class 1), the only class that MOT16, 17 and 20 score, got class "
                f"{', '.join(f'{value:g}' for value in found[:5])}; pass --classes 1 to leave out the others, or "
                "--classes all to score each"
            )


def _present(truths: Mapping[str, GroundTruth]) -> list[int]:
    """Return the classes that have a box to score, rising."""
    parts = [truth.rows[truth.rows[:, 6] != 0, 7] for truth in truths.values()]
    return sorted({int(value) for value in np.unique(np.concatenate(parts)).tolist()})


def _numbers(wanted: Sequence[str], present: Sequence[int], names: Mapping[int, str]) -> list[int]:
    by_name = {name: number for number, name in names.items()}
    known = [f"{number} ({names[number]})" if number in names else str(number) for number in present]
    numbers: list[int] = []
    for word in wanted:
        number = by_name.get(word, int(word) if word.isdecimal() else None)
        if number is None or number not in present:
            raise InvalidInputError(
                f"classes must be those of the ground truth ({', '.join(known) or 'none'}), got {word!r}"
                f"{closest_hint(word, by_name)}; choose among them, or {ALL}"
            )
        numbers.append(number)
    return list(dict.fromkeys(numbers))
