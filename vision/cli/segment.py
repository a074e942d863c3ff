"""``stride32 segment``: a class for every pixel of each picture or frame."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from vision.cli import options
from vision.segmentation.config import SegmenterConfig


def segment(
    source: options.Source,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", metavar="DIR", help="Index masks as PNG, named as the input.", show_default=False),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option("--coco", metavar="FILE.json", help="COCO results with masks as run lengths.", show_default=False),
    ] = None,
    coco_gt: Annotated[
        Path | None,
        typer.Option(
            "--coco-gt", metavar="GT.json", help="Take image ids from here.", show_default="file name's digits"
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE.csv", help="Pixels of each class and frame.", show_default=False),
    ] = None,
    jsonl: options.Jsonl = None,
    save_images: options.SaveImages = None,
    save_video: options.SaveVideo = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="NAME", help="Segmenter: name or folder.", show_default=SegmenterConfig().model
        ),
    ] = None,
    weights: options.SegmenterWeights = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="A,B", help="Names of the classes to keep; others become class 0."),
    ] = None,
    tile: options.SegmenterTile = None,
    overlap: options.SegmenterOverlap = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    overwrite: options.Overwrite = False,
    max_frames: options.MaxFrames = None,
) -> int:
    """Segment pictures or video; without an output option, JSON lines go to stdout unless it is a terminal."""
    from vision.config import to_toml

    given = options.segmenter_overrides(model=model, weights=weights, classes=classes, tile=tile, tile_overlap=overlap)
    settings = options.pipeline_config(config, [*given, *(overrides or [])], device=device)
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    from vision.cli.frames import expected_frames, report_run, write_frames
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.sources import open_source

    plan = OutputPlan(
        masks=masks,
        coco=coco,
        coco_gt=coco_gt,
        csv=csv,
        jsonl=jsonl,
        images=save_images,
        video=save_video,
        overwrite=overwrite,
    ).or_stdout()
    plan.refuse_existing(source)
    with open_source(source) as opened:
        from vision.build import build_pipeline

        total = expected_frames(opened, max_frames)
        with closing(build_pipeline(settings, detect=False, track=False, segment=True)) as pipeline:
            facts = RunFacts(
                settings=settings,
                source=source,
                class_names=pipeline.class_names,
                fps=opened.fps,
                relative_name=opened.relative_name,
                segments=True,
            )
            with plan.open(facts) as writers:
                summary = write_frames(pipeline.run(islice(opened, max_frames)), writers, "segment", total)
        return report_run(summary, len(opened.errors))
