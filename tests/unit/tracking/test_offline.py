from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from vision.errors import ConfigError
from vision.tracking.offline import refine, refine_rows
from vision.tracking.offline_config import CHI2_50_4DOF, OfflineConfig
from vision.tracking.trajectories import TRAJECTORY_FIELDS, Trajectories

NOTHING = OfflineConfig(rts=False, gaps="none", min_length=0)


def track(frames: list[int], track_id: int = 1, *, x0: float = 0.0, step: float = 4.0, **columns: Any) -> Trajectories:
    """Return a track whose box of 20 x 60 moves by ``step`` pixels a frame."""
    at = np.array(frames, np.int64)
    x = x0 + step * at
    boxes = np.stack([x, 0 * x + 10, x + 20, 0 * x + 70], axis=1).astype(np.float32)
    given = {"scores": np.full(len(at), 0.8), "labels": 0 * at, "filled": np.zeros(len(at), bool)}
    return Trajectories(at, np.full(len(at), track_id), boxes, **{**given, **columns})


def changed(**settings: Any) -> OfflineConfig:
    return dataclasses.replace(NOTHING, **settings)


def assert_equal(made: Trajectories, expected: Trajectories) -> None:
    for name in TRAJECTORY_FIELDS:
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name))


def test_nothing_asked_for_changes_nothing() -> None:
    tracks = Trajectories.concat([track([0, 2, 3]), track([1], 5)])
    assert_equal(refine(tracks, NOTHING), tracks)


@pytest.mark.parametrize("gaps", ["none", "linear", "gaussian", "rts"])
@pytest.mark.parametrize("link", [False, True])
def test_no_tracks_and_one_row(gaps: Any, link: bool) -> None:
    config = OfflineConfig(gaps=gaps, link=link, min_length=0)
    assert len(refine(Trajectories.empty(), config)) == 0
    one = track([7])
    np.testing.assert_allclose(refine(one, config).boxes, one.boxes, atol=1e-4)


def test_a_linear_gap_has_exact_boxes_scores_and_marks() -> None:
    tracks = track([0, 4], scores=np.array([0.4, 0.8]), labels=np.array([2, 2]))
    filled, sources = refine_rows(tracks, changed(gaps="linear"))
    assert filled.frames.tolist() == [0, 1, 2, 3, 4]
    assert filled.boxes[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert filled.boxes[2].tolist() == [8, 10, 28, 70]
    np.testing.assert_allclose(filled.scores, [0.4, 0.5, 0.6, 0.7, 0.8], rtol=1e-6)
    assert filled.labels.tolist() == [2] * 5
    assert filled.filled.tolist() == [False, True, True, True, False]
    assert sources.tolist() == [0, -1, -1, -1, 1]


@pytest.mark.parametrize(("max_gap", "rows"), [(2, 2), (3, 5)])
def test_max_gap_counts_missing_frames(max_gap: int, rows: int) -> None:
    assert len(refine(track([0, 4]), changed(gaps="linear", max_gap=max_gap))) == rows


@pytest.mark.parametrize("gaps", ["gaussian", "rts"])
def test_the_other_ways_follow_a_straight_path_too(gaps: Any) -> None:
    seen = [*range(12), *range(16, 24)]
    made = refine(track(seen), changed(gaps=gaps))
    assert made.frames.tolist() == list(range(24))
    np.testing.assert_allclose(made.boxes[:, 0], 4.0 * np.arange(24), atol=0.6)
    assert made.filled.sum() == 4


def test_gaps_by_the_smoother_leave_seen_boxes_alone() -> None:
    tracks = track([0, 1, 2, 6, 7])
    made = refine(tracks, changed(gaps="rts"))
    np.testing.assert_array_equal(made.boxes[~made.filled], tracks.boxes)


def test_rts_brings_noisy_boxes_nearer_to_the_truth() -> None:
    truth = track(list(range(80)))
    noise = np.random.default_rng(0).normal(0, 3, (80, 1)).astype(np.float32)
    seen = dataclasses.replace(truth, boxes=truth.boxes + noise)
    made = refine(seen, changed(rts=True))
    assert np.abs(made.boxes - truth.boxes).mean() < 0.8 * np.abs(seen.boxes - truth.boxes).mean()


def test_short_and_unsure_tracks_are_removed() -> None:
    tracks = Trajectories.concat(
        [track([0, 1, 2, 3], 1), track([0, 9], 2), track([0, 1, 2], 3, scores=np.array([0.1, 0.2, 0.3]))]
    )
    assert refine(tracks, changed(min_length=3)).track_ids.tolist() == [1, 3]
    assert refine(tracks, changed(min_score=0.5)).track_ids.tolist() == [1, 2]
    # Filled rows are no evidence: the second track was seen twice only.
    assert refine(tracks, changed(min_length=3, gaps="linear")).track_ids.tolist() == [1, 3]


def test_what_is_too_short_to_keep_is_too_short_to_link() -> None:
    tracks = Trajectories.concat([track([0, 1, 2, 3, 4], 4), track([7, 8, 9], 9)])
    assert refine(tracks, changed(min_length=5, link=True)).frames.tolist() == [0, 1, 2, 3, 4]
    assert refine(tracks, changed(min_length=3, link=True)).track_ids.tolist() == [4]


def test_coasted_rows_are_filled_anew_or_kept() -> None:
    coasted = track([0, 1, 2, 3], filled=np.array([False, True, False, True]))
    wrong = dataclasses.replace(coasted, boxes=coasted.boxes + np.float32(3) * coasted.filled[:, None])
    made = refine(wrong, changed(gaps="linear"))
    assert made.boxes[:, 0].tolist() == [0, 4, 8, 15]
    assert made.filled.tolist() == [False, True, False, True]
    assert_equal(refine(wrong, NOTHING), wrong)


def test_boxes_without_area_are_no_measurements() -> None:
    tracks = track([0, 1, 2])
    boxes = tracks.boxes.copy()
    boxes[1] = [500, 500, 500, 500]
    made = refine(dataclasses.replace(tracks, boxes=boxes), changed(gaps="linear"))
    assert made.boxes[1, 0] == 4
    assert made.filled.tolist() == [False, True, False]
    kept = refine(dataclasses.replace(tracks, boxes=boxes), NOTHING)
    assert kept.boxes[1].tolist() == [500, 500, 500, 500]


def test_the_input_is_not_written_to() -> None:
    tracks = track([0, 1, 5, 6])
    before = {name: getattr(tracks, name).copy() for name in TRAJECTORY_FIELDS}
    refine(tracks, OfflineConfig(link=True, gaps="gaussian"))
    for name, column in before.items():
        np.testing.assert_array_equal(getattr(tracks, name), column)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_gap", -1),
        ("link_max_gap", -1),
        ("min_length", -2),
        ("min_score", math.nan),
        ("link_gate", 0.0),
        ("link_max_distance", math.inf),
        ("link_max_cosine_distance", 2.1),
        ("gaussian_tau", 1.0),
        ("gaps", "cubic"),
        ("std_weight_position", 0.0),
        ("std_weight_velocity", math.nan),
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"offline\.{field} must be .*default"):
        OfflineConfig(**{field: value})


def test_link_gate_is_the_median_of_chi_square() -> None:
    from scipy.stats import chi2

    assert pytest.approx(chi2.ppf(0.5, 4), abs=1e-4) == CHI2_50_4DOF
