"""Any sequence of frames, gaps, cuts, saves and refused frames, for any named tracker: no crash, no id used twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from vision.errors import InvalidInputError
from vision.tracking.config import PRESETS
from vision.tracking.tracker import Tracker
from vision.types import TRACK_FIELDS, Detections, Tracks

WIDTH = 4
seeds = st.integers(0, 2**32 - 1)
scales = st.sampled_from([1e-3, 1.0, 1.0, 1e4, 1e7])


def frame(seed: int, count: int, scale: float, embeddings: bool) -> Detections:
    """Return boxes of all sizes on a few places, zero sizes and equal boxes among them, and scores out of [0, 1]."""
    rng = np.random.default_rng(seed)
    centre = rng.integers(0, 6, (count, 2)) * 40.0 + rng.normal(0, 3, (count, 2)) - 60
    half = rng.choice([0.0, 1e-3, 10, 20, 20, 300], (count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1) * scale
    looks = rng.standard_normal((count, WIDTH)).astype(np.float32) if embeddings and count else None
    return Detections(boxes, rng.choice([-3.0, 0.05, 0.5, 0.7, 0.9, 7.0], count), rng.integers(0, 3, count), looks)


class TrackerMachine(RuleBasedStateMachine):
    """One tracker, and a twin that is replaced by its saved and loaded self now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[int] = set()
        self.alive: set[int] = set()
        self.highest = 0
        self.index = 0
        self.has_clock = False

    @initialize(preset=st.sampled_from(sorted(PRESETS)))
    def start(self, preset: str) -> None:
        self.tracker, self.twin = Tracker(PRESETS[preset]), Tracker(PRESETS[preset])

    @rule(
        seed=seeds,
        count=st.integers(0, 14),
        scale=scales,
        embeddings=st.booleans(),
        gap=st.sampled_from([1, 1, 1, 2, 7, 1000]),
        shift=st.sampled_from([None, 0.0, 5.0, -300.0]),
    )
    def see(self, seed: int, count: int, scale: float, embeddings: bool, gap: int, shift: float | None) -> None:
        self.index += gap
        detections = frame(seed, count, scale, embeddings)
        motion = None if shift is None else np.array([[1.01, 0.02, shift], [-0.02, 1.01, -shift]])
        numbers = {"frame_index": self.index, "timestamp_s": self.index / 10}
        tracks = self.tracker.update(detections, camera_motion=motion, **numbers)
        again = self.twin.update(detections, camera_motion=motion, **numbers)
        for name in TRACK_FIELDS:
            np.testing.assert_array_equal(getattr(tracks, name), getattr(again, name), err_msg=name)
        self.has_clock = True
        self.check(tracks, detections)

    @rule()
    def save_and_load(self) -> None:
        self.twin = Tracker.from_arrays(self.twin.config, self.twin.to_arrays())

    @rule()
    def cut(self) -> None:
        self.tracker.reset()
        self.twin.reset()
        self.dead |= self.alive
        self.has_clock = False

    @rule(kind=st.sampled_from(["frame", "time", "not a time", "width", "zero", "motion"]))
    def refuse(self, kind: str) -> None:
        """A refused frame reaches the tracker only: were a trace left, the twin would differ afterwards."""
        one = frame(1, 1, 1.0, False)
        one = Detections(np.array([[10.0, 10, 50, 90]]), np.array([0.9]), one.labels)
        numbers = {"frame_index": self.index + 1, "timestamp_s": (self.index + 1) / 10}
        if kind in ("width", "zero"):
            uses = self.tracker.config.appearance
            knows = "gallery" in self.tracker.to_arrays()
            if not uses or (kind == "width" and not knows):
                return
            one = one.with_embeddings(np.ones((1, 9), np.float32) if kind == "width" else np.zeros((1, WIDTH)))
        elif kind == "frame":
            numbers["frame_index"] = self.index
        elif kind == "time":
            numbers["timestamp_s"] = self.index / 10
        elif kind == "not a time":
            numbers["timestamp_s"] = float("nan")
        if kind in ("frame", "time") and not self.has_clock:
            return  # nothing to fall behind before the first frame, or after a cut
        motion = np.full((2, 3), np.nan) if kind == "motion" else None
        with pytest.raises(InvalidInputError):
            self.tracker.update(one, camera_motion=motion, **numbers)

    @invariant()
    def states_agree(self) -> None:
        if not hasattr(self, "tracker"):
            return
        ours, theirs = self.tracker.to_arrays(), self.twin.to_arrays()
        assert set(ours) == set(theirs)
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name], err_msg=name)
            if values.dtype.kind == "f" and name not in ("clock", "observed", "past"):
                assert np.isfinite(values).all(), name

    def check(self, tracks: Tracks, detections: Detections) -> None:
        assert np.isfinite(tracks.boxes).all()
        assert (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all()
        assert (np.diff(tracks.ids) > 0).all()
        matched = tracks.detection_index >= 0
        assert len(np.unique(tracks.detection_index[matched])) == matched.sum()
        assert (tracks.detection_index < len(detections)).all()
        np.testing.assert_array_equal(matched, tracks.time_since_update == 0)
        np.testing.assert_array_equal(tracks.labels[matched], detections.labels[tracks.detection_index[matched]])
        live = set(self.tracker.to_arrays()["ids"].tolist())
        assert set(tracks.ids.tolist()) <= live
        assert not live & self.dead
        assert min(live - self.alive, default=self.highest + 1) > self.highest
        self.dead |= self.alive - live
        self.alive = live
        self.highest = max(self.highest, *live) if live else self.highest


def test_no_sequence_of_frames_breaks_a_tracker() -> None:
    run_state_machine_as_test(TrackerMachine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
