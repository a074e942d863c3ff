"""Laws of the offline stage: it invents no track, reaches beyond none, and removes once what it removes."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vision.tracking.offline import refine
from vision.tracking.offline_config import GAP_METHODS, OfflineConfig
from vision.tracking.trajectories import TRAJECTORY_FIELDS, Trajectories


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectories:
    """Draw up to 20 rows of up to 4 tracks, some coasted, some without an area."""
    keys = draw(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 3)), max_size=20, unique=True))
    n = len(keys)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    corner = rng.uniform(-50, 500, (n, 2))
    size = rng.choice([0.0, 0.01, 30, 80], (n, 2), p=[0.05, 0.05, 0.4, 0.5]) * rng.uniform(0.9, 1.1, (n, 2))
    return Trajectories(
        np.array([frame for frame, _ in keys], np.int64),
        np.array([track_id for _, track_id in keys], np.int64),
        np.concatenate([corner, corner + size], axis=1),
        rng.uniform(-1, 1, n),
        rng.integers(0, 2, n),
        rng.random(n) < 0.15,
    )


configs = st.builds(
    OfflineConfig,
    link=st.booleans(),
    link_gate=st.sampled_from([3.0, 1e6]),
    link_max_distance=st.sampled_from([0.3, 1e3]),
    link_max_gap=st.integers(0, 30),
    min_length=st.integers(0, 4),
    min_score=st.none() | st.floats(-1, 1),
    rts=st.booleans(),
    gaps=st.sampled_from(GAP_METHODS),
    max_gap=st.integers(0, 30),
)


@settings(max_examples=80)
@given(trajectories(), configs)
def test_ids_and_frames_stay_within_what_was_seen(given_tracks: Trajectories, config: OfflineConfig) -> None:
    # That an id is unique in a frame, also after linking, is checked by Trajectories itself.
    made = refine(given_tracks, config)
    assert set(made.track_ids.tolist()) <= set(given_tracks.track_ids.tolist())
    for track_id, rows in made.split():
        assert rows.frames[0] == given_tracks.of(track_id).frames[0]
        if not config.link:
            assert rows.frames[-1] == given_tracks.of(track_id).frames[-1]
    if config.gaps == "none":
        assert len(made) <= len(given_tracks)
    else:
        assert len(made) >= len(given_tracks[np.isin(given_tracks.ids, made.ids)])


@settings(max_examples=40)
@given(trajectories(), configs)
def test_equal_input_gives_equal_output(given_tracks: Trajectories, config: OfflineConfig) -> None:
    one, other = refine(given_tracks, config), refine(given_tracks, config)
    for name in TRAJECTORY_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(max_examples=40)
@given(trajectories(), configs)
def test_removal_and_linear_filling_are_idempotent(given_tracks: Trajectories, config: OfflineConfig) -> None:
    config = dataclasses.replace(config, link=False, rts=False, gaps="linear")
    once = refine(given_tracks, config)
    twice = refine(once, config)
    for name in TRAJECTORY_FIELDS:
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), atol=1e-3)
