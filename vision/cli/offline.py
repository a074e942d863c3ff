"""``stride32 track --offline``: a whole sequence followed first, its tracks improved, and only then written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from vision.cli.frames import RunSummary
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.sources import Source
    from vision.types import Frame, FrameResult

    Results = Iterator[tuple[Frame | None, FrameResult]]

Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Improve the tracks when the source is over: fill gaps, smooth; see stride32 tracks smooth."
    ),
]

REMEDY = "record it to a file first, or leave --offline out"


def refuse_live(source: str | None, opened: Source | None = None) -> None:
    """Raise ConfigError for a source that never ends or cannot be read a second time."""
    from vision.errors import ConfigError

    live = opened is not None and opened.kind == "stream"
    if source is not None and (live or source == "-" or "://" in source):
        what = "standard input" if source == "-" else "a live stream"
        raise ConfigError(
            f"--offline needs a source that ends and can be read twice (a video file, pictures), got {what}; {REMEDY}",
            expected="a video file or pictures",
            actual=what,
        )


def write_offline(
    results: Results, plan: OutputPlan, facts: RunFacts, total: int | None, source: str | None, max_frames: int | None
) -> tuple[RunSummary, list[object]]:
    """Consume ``results``, refine their tracks and write them; return the summary and the writers, closed.

    Only boxes and numbers are kept in between. Pictures that an output draws on are read from ``source`` once more.
    """
    from vision.cli.frames import write_frames
    from vision.io.writers.recording import RecordingWriter

    recording = RecordingWriter()
    first = write_frames(results, [recording], "track", total)
    refined = recording.recorder.results(facts.settings.offline)
    if source is not None and plan.needs_pictures():
        again: Results = _with_pictures(source, refined, max_frames)
    else:
        again = ((None, result) for result in refined)
    with plan.open(facts) as writers:
        second = write_frames(again, writers, "write", len(recording.recorder))
    summary = replace(second, seconds=first.seconds + second.seconds)
    summary.interrupted = first.interrupted or second.interrupted
    typer.echo(f"offline: {len(first.track_lengths)} tracks became {len(second.track_lengths)}", err=True)
    return summary, list(writers)


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
