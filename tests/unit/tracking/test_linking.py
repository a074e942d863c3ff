from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vision.tracking.linking import Appearance
from vision.tracking.offline import refine
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.trajectories import Trajectories

LINK: dict[str, Any] = {"link": True, "rts": False, "gaps": "none", "min_length": 0}


def piece(
    first: int, last: int, track_id: int, *, x0: float = 0.0, step: float = 2.0, label: int = 0, height: float = 80.0
) -> Trajectories:
    """Return a track at x0 + step * frame in frames ``first`` to ``last``."""
    at = np.arange(first, last + 1)
    x = x0 + step * at
    boxes = np.stack([x, 0 * x, x + 30, 0 * x + height], axis=1).astype(np.float32)
    count = len(at)
    ids, labels = np.full(count, track_id), np.full(count, label)
    return Trajectories(at, ids, boxes, np.ones(count), labels, np.zeros(count, bool))


def linked(parts: list[Trajectories], appearance: Appearance | None = None, **settings: Any) -> list[int]:
    return refine(Trajectories.concat(parts), OfflineConfig(**{**LINK, **settings}), appearance).track_ids.tolist()


def test_one_path_in_three_pieces_gets_the_first_id() -> None:
    assert linked([piece(0, 9, 7), piece(15, 24, 3), piece(30, 40, 5)]) == [7]


@pytest.mark.parametrize(
    ("other", "settings"),
    [
        (piece(10, 19, 2, x0=60), {}),
        (piece(15, 24, 2, label=1), {}),
        (piece(15, 24, 2, height=160), {}),
        (piece(50, 60, 2), {}),
        (piece(15, 24, 2), {"link_max_gap": 4}),
        (piece(9, 24, 2), {}),
        (piece(5, 24, 2), {}),
    ],
    ids=["elsewhere", "another class", "another size", "too late", "gap too long", "touching", "overlapping"],
)
def test_pieces_that_do_not_fit_stay_apart(other: Trajectories, settings: dict[str, Any]) -> None:
    assert linked([piece(0, 9, 1), other], **settings) == [1, 2]


def test_max_gap_is_inclusive_and_zero_joins_neighbours() -> None:
    assert linked([piece(0, 9, 1), piece(15, 24, 2)], link_max_gap=5) == [1]
    assert linked([piece(0, 9, 1), piece(10, 19, 2)], link_max_gap=0) == [1]


def test_both_directions_of_time_must_agree() -> None:
    # The second begins where the first is expected, but comes from elsewhere.
    turned = piece(20, 29, 2, x0=200, step=-8)
    assert linked([piece(0, 9, 1), turned]) == [1, 2]


def test_appearance_forbids_and_decides() -> None:
    one, other = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    parts = [piece(0, 9, 1), piece(15, 24, 2)]
    assert linked(parts, {1: one, 2: other}) == [1, 2]
    assert linked(parts, {1: one, 2: one}) == [1]
    assert linked(parts, {1: one}) == [1]
    # Two that fit in place, side by side; the one that looks alike is taken although the other fits better.
    rivals = [*parts, piece(15, 24, 3, x0=6)]
    made = refine(Trajectories.concat(rivals), OfflineConfig(**LINK), {1: one, 2: other, 3: one})
    assert made.of(1).frames.tolist() == [*range(10), *range(15, 25)]
    assert made.track_ids.tolist() == [1, 2]
    assert made.of(1).boxes[-1, 0] == 6 + 2 * 24


def test_a_track_has_one_successor_and_the_better_one() -> None:
    made = refine(
        Trajectories.concat([piece(0, 9, 1), piece(15, 24, 2, x0=6), piece(15, 24, 3, x0=1)]), OfflineConfig(**LINK)
    )
    assert made.track_ids.tolist() == [1, 2]
    assert made.of(1).boxes[-1, 0] == 1 + 2 * 24


def test_a_coasted_tail_counts_as_the_track() -> None:
    first = piece(0, 12, 1)
    coasted = Trajectories(
        first.frames, first.ids, first.boxes, first.scores, first.labels, np.asarray(first.frames > 9)
    )
    assert linked([coasted, piece(11, 20, 2)]) == [1, 2]
    assert linked([coasted, piece(14, 20, 2)]) == [1]
