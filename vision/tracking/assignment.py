"""Who belongs to whom: the best one-to-one match of tracks and detections among the pairs that passed the gates.

Everything works on lists of pairs (row, column, cost) instead of full matrices: after the gate a track has one or two
candidates, and most pairs have no rival at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Indices = npt.NDArray[np.intp]
Costs = npt.NDArray[np.floating[Any]]
Matches = tuple[Indices, Indices]
"""Matched rows [K] and their columns [K]."""

CostOf = Callable[[Indices], Costs]
"""Cost [K] of chosen pairs, given by their numbers [K], ascending."""

# Gain of a pair whose cost equals the limit: such a pair is allowed and must beat no match at all.
TIE_GAIN = 1e-6


def is_unrivalled(rows: Indices, columns: Indices) -> npt.NDArray[np.bool_]:
    """Return which pairs [P] are the only one both in their row and in their column."""
    if not len(rows):
        return np.zeros(0, bool)
    return np.asarray((np.bincount(rows)[rows] == 1) & (np.bincount(columns)[columns] == 1))


def others(count: int, taken: Indices) -> Indices:
    """Return the numbers below ``count`` that are not in ``taken`` (each at most once), ascending."""
    if len(taken) == count:
        return np.zeros(0, np.intp)
    free = np.ones(count, bool)
    free[taken] = False
    return np.flatnonzero(free)


def assign(rows: Indices, columns: Indices, costs: Costs, limit: float, bonus_of: CostOf | None = None) -> Matches:
    """Return the one-to-one choice of pairs [P] with the largest sum of ``limit - cost``; none above the limit.

    No match counts as a match of cost ``limit``. Counting matches first instead would trade a sure pair for two
    poor ones. The bonus that ``bonus_of`` gives to pairs counts in the choice, but does not lift them over the limit;
    only pairs with a rival are asked for.
    Cost: linear in P for pairs without a rival; cubic only in the size of the contested rest.
    """
    allowed = (costs <= limit).nonzero()[0]
    if len(allowed) < len(costs):
        rows, columns, costs = rows[allowed], columns[allowed], costs[allowed]
    alone = is_unrivalled(rows, columns)
    if alone.all():
        return rows, columns
    contested = (~alone).nonzero()[0]
    row_names, row_of = _compact(rows[contested])
    column_names, column_of = _compact(columns[contested])
    gain = np.zeros((len(row_names), len(column_names)))
    worth = limit - costs[contested].astype(np.float64)
    if bonus_of is not None:
        worth = np.maximum(worth + bonus_of(allowed[contested]), 0)
    gain[row_of, column_of] = worth + TIE_GAIN
    chosen_rows, chosen_columns = linear_sum_assignment(gain, maximize=True)
    real = gain[chosen_rows, chosen_columns] > 0
    return (
        np.concatenate([rows[alone], row_names[chosen_rows[real]]]),
        np.concatenate([columns[alone], column_names[chosen_columns[real]]]),
    )


def _compact(names: Indices) -> tuple[Indices, Indices]:
    """Return the distinct ``names``, ascending, and the position of each name among them (np.unique without a sort)."""
    present = np.zeros(int(names.max()) + 1, bool)
    present[names] = True
    distinct = np.flatnonzero(present)
    position = np.cumsum(present) - 1
    return distinct, position[names]


def match_cascade(
    rows: Indices, columns: Indices, ages: npt.NDArray[np.int64], cost_of: CostOf, limit: float
) -> Matches:
    """Return the matches of pairs [P] when tracks seen more recently choose first (Wojke 2017, section 2.3).

    Args:
        rows: track of each pair, sorted.
        columns: detection of each pair.
        ages: int64 [P], frames since the pair's track was last seen.
        cost_of: cost of chosen pairs; called for the youngest age, then once for what that age leaves over.
        limit: highest cost of a match.

    The paper runs through all ages up to ``max_age``; ages without a candidate cannot match and are never visited.
    """
    nothing = np.zeros(0, np.intp)
    if not len(rows):
        return nothing, nothing
    youngest = np.flatnonzero(ages == ages.min())
    matches = [assign(rows[youngest], columns[youngest], cost_of(youngest), limit)]
    if len(youngest) == len(rows):
        return matches[0]
    # Costs are dear: ask for the older ages' only now, when most detections are taken.
    is_free = np.ones(int(columns.max()) + 1, bool)
    is_free[matches[0][1]] = False
    older = ages > ages[youngest[0]]
    left = np.flatnonzero(older & is_free[columns])
    costs = cost_of(left)
    left, costs = left[costs <= limit], costs[costs <= limit]
    for age in np.unique(ages[left]):
        level = ages[left] == age
        matches.append(assign(rows[left[level]], columns[left[level]], costs[level], limit))
        is_free[matches[-1][1]] = False
        still_free = is_free[columns[left]]
        left, costs = left[still_free], costs[still_free]
    return np.concatenate([match[0] for match in matches]), np.concatenate([match[1] for match in matches])
