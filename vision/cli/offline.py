"""``stride32 track --offline``: a whole sequence followed first, its tracks improved, and only then written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vision.cli.frames import RunSummary
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.writers.base import Writer
    from vision.types import Frame, FrameResult

    Results = Iterator[tuple[Frame | None, FrameResult]]

Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Improve the tracks when the source is over: fill gaps, smooth; see stride32 tracks smooth."
    ),
]


def refuse_live(source: str) -> None:
    """Raise ConfigError for a SOURCE that may never end or cannot be read a second time, before it is opened."""
    from vision.errors import ConfigError

    kinds = {
        "standard input": source == "-",
        "an address": "://" in source,
        "a camera": source.isdecimal() and not Path(source).exists(),
    }
    for what, holds in kinds.items():
        if holds:
            raise ConfigError(
                f"--offline needs a source that ends and can be read twice (a video file, pictures), got {what}; "
                "record it to a file first, or leave --offline out",
                expected="a video file or pictures",
                actual=what,
            )


def write_run(
    results: Results,
    plan: OutputPlan,
    facts: RunFacts,
    total: int | None,
    *,
    offline: bool,
    pictures: str | None = None,
    max_frames: int | None = None,
) -> tuple[RunSummary, Sequence[Writer]]:
    """Write the tracks of a run frame by frame, or refined at its end; return its summary and the closed writers.

    Args:
        results: each frame with its result; consumed.
        plan: the outputs.
        facts: what the writers need to know.
        total: frames to expect, or None.
        offline: refine the tracks first. Only boxes and numbers are kept until then.
        pictures: the source, which is then read again for outputs that draw; None has no pictures.
        max_frames: frames to read of it.
    """
    from vision.cli.frames import write_frames

    if not offline:
        with plan.open(facts) as writers:
            return write_frames(results, writers, "track", total), writers
    from vision.io.writers.recording import RecordingWriter

    recording = RecordingWriter()
    first = write_frames(results, [recording], "track", total)
    refined = recording.recorder.results(facts.settings.offline)
    again: Results = ((None, result) for result in refined)
    if pictures is not None and _draws(plan):
        again = _with_pictures(pictures, refined, max_frames)
    with plan.open(facts) as writers:
        second = write_frames(again, writers, "write", len(recording.recorder))
    typer.echo(f"offline: {len(first.track_lengths)} tracks became {len(second.track_lengths)}", err=True)
    interrupted = first.interrupted or second.interrupted
    return replace(second, seconds=first.seconds + second.seconds, interrupted=interrupted), writers


def _draws(plan: OutputPlan) -> bool:
    """Return whether an output needs the pictures of the source."""
    drawn = (plan.video, plan.images, plan.sheet, plan.counting.heatmap, plan.counting.trajectories)
    return any(path is not None for path in drawn)


def _with_pictures(source: str, results: Iterator[FrameResult], max_frames: int | None) -> Results:
    """Yield each result with its frame, read again; frames that gave no result the first time are passed over."""
    from vision.io.sources import open_source
    from vision.pipeline import QUEUE_DEPTH
    from vision.prefetch import prefetch

    with open_source(source) as opened, closing(prefetch(islice(opened, max_frames), QUEUE_DEPTH)) as frames:
        waiting = next(results, None)
        for frame in frames:
            if waiting is None:
                return
            if frame.index == waiting.frame_index:
                yield frame, waiting
                waiting = next(results, None)
