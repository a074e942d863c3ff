"""``stride32 track A B ... --out DIR``: several sources at a time through one bank, each into a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vision.cli.camera import report_camera
from vision.cli.exit_codes import FAILURE, INTERRUPTED, OK, SOME_INPUTS_FAILED
from vision.cli.frames import GracefulStop, RunSummary, expected_frames
from vision.cli.outputs import OutputPlan, RunFacts
from vision.cli.progress import Progress

if TYPE_CHECKING:
    from vision.bank import PipelineBank, StreamResult
    from vision.config import PipelineConfig
    from vision.io.sources import Source
    from vision.io.writers.base import Writer


@dataclass
class Stream:
    """One source with its outputs.

    Attributes:
        source: SOURCE as the user gave it.
        opened: its frames.
        plan: what is written of it.
        summary: what was done so far.
        errors: frames that could not be processed, and whatever ended the source early.
    """

    source: str
    opened: Source
    plan: OutputPlan
    summary: RunSummary = field(default_factory=RunSummary)
    errors: int = 0


def refuse_single_outputs(plan: OutputPlan, detections: Path | None, out: Path | None, *, offline: bool) -> None:
    """Raise BadParameter for options that belong to one source."""
    if out is None:
        raise typer.BadParameter("several SOURCEs need --out DIR: each writes into a folder of its own below it")
    if plan.paths() or plan.counting or detections is not None or offline:
        raise typer.BadParameter(
            "several SOURCEs take --out alone: files named by options, --detections, --count and --offline belong to "
            "one SOURCE; run them one by one, or use stride32 tracks on the results"
        )


def track_streams(
    sources: Sequence[str], settings: PipelineConfig, out: Path, *, overwrite: bool, max_frames: int | None
) -> int:
    """Track all sources at a time and return the exit code; outputs are refused before any model loads."""
    from vision.io.sources import open_source

    with ExitStack() as stack:
        streams: dict[str, Stream] = {}
        for source in sources:
            opened = stack.enter_context(open_source(source))
            name = free_name(opened.name, streams)
            plan = OutputPlan(overwrite=overwrite).with_folder(out / name)
            plan.refuse_existing(source)
            streams[name] = Stream(source, opened, plan)
        from vision.build import build_bank, resolve_config

        settings = resolve_config(settings)
        with closing(build_bank(settings, max_streams=len(streams))) as bank:
            seconds, interrupted = _write(bank, streams, settings, max_frames)
            for name, stream in streams.items():
                stream.plan.record(settings)
                if name in bank.trackers:
                    report_camera(bank.trackers.camera(name), name)
        return _report(streams, seconds, interrupted=interrupted)


def free_name(name: str, taken: Mapping[str, object]) -> str:
    """Return ``name``, or with a number behind it if another source has it already.

    >>> free_name("north", {"north": 0, "north-2": 0})
    'north-3'
    """
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _write(
    bank: PipelineBank, streams: Mapping[str, Stream], settings: PipelineConfig, max_frames: int | None
) -> tuple[float, bool]:
    """Write the results of all streams; return the wall seconds, and whether Ctrl-C ended it early."""
    expected = [expected_frames(stream.opened, max_frames) for stream in streams.values()]
    known = [count for count in expected if count is not None]
    with ExitStack() as stack:
        writers: dict[str, list[Writer]] = {}
        for name, stream in streams.items():
            facts = RunFacts(
                settings=settings, source=stream.source, class_names=bank.class_names, fps=stream.opened.fps
            )
            writers[name] = stack.enter_context(stream.plan.open(facts))
        progress = stack.enter_context(Progress("track", sum(known) if len(known) == len(expected) else None))
        stop = stack.enter_context(GracefulStop())
        frames = {name: islice(stream.opened, max_frames) for name, stream in streams.items()}
        for name, outcome in stack.enter_context(closing(bank.run(frames))):
            _write_one(name, streams[name], outcome, writers[name])
            progress.advance()
            if stop.requested:
                break
    return progress.seconds, stop.requested


def _write_one(name: str, stream: Stream, outcome: StreamResult, writers: Sequence[Writer]) -> None:
    if outcome.result is None:
        stream.errors += 1
        typer.echo(f"error: {name}: {outcome.error}", err=True)
        return
    for writer in writers:
        writer.write(outcome.frame, outcome.result)
    stream.summary.add(outcome.result)


def _report(streams: Mapping[str, Stream], seconds: float, *, interrupted: bool) -> int:
    """Print how each stream ended on stderr and return the exit code of the run."""
    frames = failed = 0
    for name, stream in streams.items():
        stream.summary.seconds = seconds
        typer.echo(f"{name}: {stream.summary.line()}", err=True)
        frames += stream.summary.frames
        failed += stream.errors + len(stream.opened.errors)
    rate = frames / max(seconds, 1e-9)
    typer.echo(f"{len(streams)} sources, {frames} frames in {seconds:.1f} s ({rate:.1f} frames/s)", err=True)
    if interrupted:
        return INTERRUPTED
    if failed:
        typer.echo(f"error: {failed} inputs or frames failed (see above); the others are written", err=True)
        return SOME_INPUTS_FAILED if frames else FAILURE
    return OK
