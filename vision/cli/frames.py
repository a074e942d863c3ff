"""The loop of every command that goes over frames: write each result, count it, and stop well on Ctrl-C."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import typer

from vision.cli.exit_codes import FAILURE, INTERRUPTED, OK, SOME_INPUTS_FAILED
from vision.cli.progress import Progress

if TYPE_CHECKING:
    from vision.io.sources import Source
    from vision.io.writers.base import Writer
    from vision.regions import TrackRegions
    from vision.types import Frame, FrameResult, SegmentationMap, Tracks

SUMMARY_CLASSES = 8  # as many as fit a line


@runtime_checkable
class Closable(Protocol):
    """A generator, which must be closed for its decoding threads to end."""

    def close(self) -> None:
        """Release what is held."""


@dataclass
class RunSummary:
    """What a run did, for the exit code and the line at its end.

    Attributes:
        frames: results written.
        seconds: wall time of the loop.
        detections: boxes over all frames.
        track_lengths: frames in which each track id was seen.
        classes: frames to which each class was assigned; None unless frames were classified.
        areas: share of the picture that each class covers, summed over frames; None unless frames were segmented alone.
        surfaces: how often a track stood on what.
        interrupted: Ctrl-C ended the run early.
    """

    frames: int = 0
    seconds: float = 0.0
    detections: int = 0
    track_lengths: Counter[int] = field(default_factory=Counter)
    classes: Counter[str] | None = None
    areas: dict[str, float] | None = None
    surfaces: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False

    @property
    def frames_per_s(self) -> float:
        """Mean rate over the run."""
        return self.frames / max(self.seconds, 1e-9)

    def add(self, result: FrameResult) -> None:
        """Count one result; of its tracks those that are written: confirmed and seen in this frame."""
        from vision.io.writers.base import reported_tracks

        self.frames += 1
        if result.detections is not None:
            self.detections += len(result.detections)
        if result.tracks is not None:
            self.track_lengths.update(reported_tracks(result.tracks).ids.tolist())
        if result.regions is not None and result.tracks is not None:
            self._add_surfaces(result.regions, result.tracks)
        elif result.segmentation is not None:
            self._add_areas(result.segmentation)
        if result.classification is not None:
            self.classes = self.classes or Counter()
            self.classes.update(result.classification.names[: result.classification.assigned])

    def _add_surfaces(self, regions: TrackRegions, tracks: Tracks) -> None:
        from vision.types import TrackState

        confirmed = (tracks.states == TrackState.CONFIRMED).tolist()
        self.surfaces.update(
            name for name, counts in zip(regions.surfaces, confirmed, strict=True) if counts and name is not None
        )

    def _add_areas(self, segmentation: SegmentationMap) -> None:
        from numpy import bincount

        areas = self.areas or dict.fromkeys(segmentation.class_names, 0.0)
        pixels = bincount(segmentation.labels.ravel(), minlength=len(areas)).tolist()
        for name, count in zip(segmentation.class_names, pixels, strict=True):
            areas[name] += count / max(1, segmentation.labels.size)
        self.areas = areas

    def _shares(self) -> str:
        """Return the largest classes with their mean share of the picture."""
        shares = sorted(((share / self.frames, name) for name, share in (self.areas or {}).items()), reverse=True)
        return ", ".join(f"{name} {share:.0%}" for share, name in shares[:SUMMARY_CLASSES] if share >= 0.005)

    def line(self) -> str:
        """Return the run in one line.

        >>> RunSummary(frames=10, seconds=2.0, detections=3).line()
        '10 frames in 2.0 s (5.0 frames/s): 3 detections'
        """
        found = f"{self.detections} detections"
        if self.classes is not None:
            found = ", ".join(f"{name} {count}" for name, count in self.classes.most_common(SUMMARY_CLASSES))
            found = found or "classified"
        if self.areas is not None:
            found = self._shares()
        if self.track_lengths:
            found += f", {len(self.track_lengths)} tracks (longest {max(self.track_lengths.values())} frames)"
        if self.surfaces:
            most = self.surfaces.most_common(SUMMARY_CLASSES)
            found += ", on " + ", ".join(f"{name} {count / self.surfaces.total():.0%}" for name, count in most)
        return f"{self.frames} frames in {self.seconds:.1f} s ({self.frames_per_s:.1f} frames/s): {found}"


class GracefulStop:
    """Within it the first Ctrl-C only sets ``requested``, so that no output is cut in the middle; the second breaks.

    Args:
        message: what the first one prints.
    """

    def __init__(self, message: str = "stopping after this frame; Ctrl-C again stops at once") -> None:
        self.requested = False
        self._message = message
        self._previous: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        self._previous = signal.signal(signal.SIGINT, self._request)
        return self

    def __exit__(self, *exc_info: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        typer.echo(self._message, err=True)


def write_frames(
    results: Iterator[tuple[Frame | None, FrameResult]], writers: Sequence[Writer], label: str, total: int | None
) -> RunSummary:
    """Consume ``results`` into ``writers`` until their end or Ctrl-C; closing the writers stays with the caller."""
    summary = RunSummary()
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(label, total))
        stop = stack.enter_context(GracefulStop())
        if isinstance(results, Closable):
            stack.enter_context(closing(results))
        for frame, result in results:
            for writer in writers:
                writer.write(frame, result)
            summary.add(result)
            progress.advance()
            if stop.requested:
                summary.interrupted = True
                break
    summary.seconds = progress.seconds
    return summary


def expected_frames(source: Source, max_frames: int | None) -> int | None:
    """Return the frames to expect, or None when neither the source nor ``--max-frames`` says."""
    known = [count for count in (source.frame_count, max_frames) if count is not None]
    return min(known, default=None)


def report_run(summary: RunSummary, failed: int = 0) -> int:
    """Print how the run ended on stderr and return its exit code.

    Args:
        summary: what was done.
        failed: inputs that could not be read; the source has logged each as it met it.
    """
    typer.echo(summary.line(), err=True)
    if summary.interrupted:
        return INTERRUPTED
    if failed:
        written = "what could be read is written" if summary.frames else "nothing could be read"
        typer.echo(f"error: {failed} input{'s' * (failed > 1)} could not be read (see above); {written}", err=True)
        return SOME_INPUTS_FAILED if summary.frames else FAILURE
    return OK
