"""A file of tracks in a few numbers: how many, how long, how often interrupted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vision.io.writers.tracks_header import TracksHeader
from vision.tracking.trajectories import Trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class TracksSummary:
    """What ``stride32 tracks show`` says; a number that the rows do not give is None.

    Attributes:
        rows: observations.
        filled: rows without a detection behind them.
        tracks: different ids.
        frames_with_tracks: frames that have a row.
        first_frame, last_frame: indices from 0, of rows.
        frame_count: frames of the sequence where the file says so.
        longest_id, longest_rows: the track with the most rows; the lowest id among equals.
        median_rows: of a track.
        gaps: interruptions of tracks, runs of frames between two rows of one id.
        gap_frames: frames in all of them together.
        longest_gap: frames in the longest.
        mean_score: over rows.
        classes: rows of each class, by name.
        fps, source, size_hw: as in the header.
    """

    rows: int
    filled: int
    tracks: int
    frames_with_tracks: int
    first_frame: int | None
    last_frame: int | None
    frame_count: int | None
    longest_id: int | None
    longest_rows: int
    median_rows: float | None
    gaps: int
    gap_frames: int
    longest_gap: int
    mean_score: float | None
    classes: dict[str, int]
    fps: float | None
    source: str
    size_hw: tuple[int, int] | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the summary as lines of text."""
        rows = f"{self.rows} rows" + (f", {self.filled} of them filled" if self.filled else "")
        lines = [f"tracks        {self.tracks}, {rows}"]
        if self.source:
            lines.append(f"source        {self.source}")
        if self.rows == 0:
            return lines
        total = "" if self.frame_count is None else f" of {self.frame_count}"
        lines.append(
            f"frames        {self.frames_with_tracks}{total} with tracks, index {self.first_frame} to {self.last_frame}"
        )
        if self.fps is not None:
            lines.append(f"frame rate    {self.fps:g} frames/s")
        if self.size_hw is not None:
            lines.append(f"frame size    {self.size_hw[1]} x {self.size_hw[0]}")
        lines.append(
            f"length        median {self.median_rows:g} rows, longest {self.longest_rows} (id {self.longest_id})"
        )
        lines.append(f"gaps          {self.gaps}, {self.gap_frames} frames, longest {self.longest_gap}")
        lines.append(f"mean score    {self.mean_score:.3f}")
        lines.append("classes       " + ", ".join(f"{name} {count}" for name, count in self.classes.items()))
        return lines


def summarize(trajectories: Trajectories, header: TracksHeader | None = None) -> TracksSummary:
    """Return the summary of tracks and of what their file said besides."""
    header = header or TracksHeader()
    n = len(trajectories)
    ids, counts = np.unique(trajectories.ids, return_counts=True)
    labels, label_counts = np.unique(trajectories.labels, return_counts=True)
    order = np.lexsort((trajectories.frames, trajectories.ids))
    same = np.diff(trajectories.ids[order]) == 0
    missing = np.diff(trajectories.frames[order])[same] - 1
    missing = missing[missing > 0]
    # Two labels may share a name, and their rows then stand under it together.
    classes: dict[str, int] = {}
    for label, count in zip(labels.tolist(), label_counts.tolist(), strict=True):
        name = header.name_of(label)
        classes[name] = classes.get(name, 0) + count
    longest = int(np.argmax(counts)) if n else 0
    return TracksSummary(
        rows=n,
        filled=int(trajectories.filled.sum()),
        tracks=len(ids),
        frames_with_tracks=len(np.unique(trajectories.frames)),
        first_frame=int(trajectories.frames[0]) if n else None,
        last_frame=int(trajectories.frames[-1]) if n else None,
        frame_count=header.frame_count,
        longest_id=int(ids[longest]) if n else None,
        longest_rows=int(counts[longest]) if n else 0,
        median_rows=float(np.median(counts)) if n else None,
        gaps=len(missing),
        gap_frames=int(missing.sum()),
        longest_gap=int(missing.max(initial=0)),
        mean_score=float(trajectories.scores.mean(dtype=np.float64)) if n else None,
        classes=classes,
        fps=header.fps,
        source=header.source,
        size_hw=header.size_hw,
    )
