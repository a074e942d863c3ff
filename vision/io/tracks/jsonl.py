"""Tracks from the JSON lines of ``stride32 track``; they are read only, since Trajectories hold a part of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vision.errors import InvalidInputError
from vision.io.writers.jsonl import read_jsonl
from vision.io.writers.tracks_header import TracksHeader, estimate_fps
from vision.tracking.trajectories import Trajectories
from vision.types import FrameResult


@dataclass(slots=True)
class _Passed:
    """What the frames that went by have said: how many there are, their size, and the times at both ends."""

    frame_count: int = 0
    size_hw: tuple[int, int] | None = None
    first: tuple[int, float] | None = None
    last: tuple[int, float] | None = None

    def watch(self, results: Iterable[FrameResult], path: Path) -> Iterator[FrameResult]:
        for result in results:
            if result.tracks is None:
                raise InvalidInputError(
                    f"{path} must hold tracks, frame_index {result.frame_index} has none; make it with stride32 track",
                    path=path,
                )
            self.frame_count = max(self.frame_count, result.frame_index + 1)
            self.size_hw = self.size_hw or result.size_hw
            if result.timestamp_s is not None:
                self.last = result.frame_index, result.timestamp_s
                self.first = self.first or self.last
            yield result


def read_jsonl_tracks(path: Path) -> tuple[Trajectories, TracksHeader]:
    """Return the confirmed tracks of each frame in which they were seen, and what header line and frames say.

    Raises:
        InvalidInputError: names the file and line of what is no frame result, or a frame without a tracker's output.
    """
    opening, results = read_jsonl(path)
    passed = _Passed()
    names = opening.get("class_names")
    try:
        trajectories = Trajectories.from_results(passed.watch(results, path))
        return trajectories, TracksHeader(
            class_names=tuple(str(name) for name in names) if isinstance(names, list) else (),
            fps=estimate_fps(passed.first, passed.last),
            source=str(opening.get("source", "")),
            size_hw=passed.size_hw,
            frame_count=passed.frame_count,
        )
    except InvalidInputError as exc:
        if exc.path is not None:
            raise
        raise InvalidInputError(f"{path}: {exc}", path=path) from exc
