"""``stride32 detect``: the objects of each picture or frame."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from vision.cli import options


def detect(
    source: options.Source,
    coco: Annotated[
        Path | None, typer.Option("--coco", metavar="FILE.json", help="COCO results list.", show_default=False)
    ] = None,
    coco_gt: Annotated[
        Path | None,
        typer.Option(
            "--coco-gt", metavar="GT.json", help="Take image ids from here.", show_default="file name's digits"
        ),
    ] = None,
    jsonl: options.Jsonl = None,
    csv: options.Csv = None,
    save_images: options.SaveImages = None,
    save_video: options.SaveVideo = None,
    model: options.DetectorModel = None,
    window: options.Window = False,
    weights: options.DetectorWeights = None,
    conf: options.Conf = None,
    iou: options.Iou = None,
    max_det: options.MaxDet = None,
    classes: options.Classes = None,
    agnostic_nms: options.AgnosticNms = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    overwrite: options.Overwrite = False,
    max_frames: options.MaxFrames = None,
) -> int:
    """Detect objects; without an output option, JSON lines go to stdout unless it is a terminal."""
    from vision.config import to_toml

    settings = options.pipeline_config(
        config,
        overrides,
        device=device,
        model=model,
        window=window,
        weights=weights,
        conf=conf,
        iou=iou,
        max_det=max_det,
        classes=classes,
        class_agnostic=agnostic_nms,
        tile=tile,
        overlap=overlap,
    )
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    from vision.cli.frames import expected_frames, report_run, write_frames
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.sources import open_source

    plan = OutputPlan(
        coco=coco, coco_gt=coco_gt, jsonl=jsonl, csv=csv, images=save_images, video=save_video, overwrite=overwrite
    ).or_stdout()
    plan.refuse_existing(source)
    with open_source(source) as opened:
        from vision.build import build_pipeline, resolve_config

        settings = resolve_config(settings, track=False)
        total = expected_frames(opened, max_frames)
        with closing(build_pipeline(settings, track=False)) as pipeline:
            facts = RunFacts(
                settings=settings,
                source=source,
                class_names=pipeline.class_names,
                fps=opened.fps,
                relative_name=opened.relative_name,
            )
            with plan.open(facts) as writers:
                summary = write_frames(pipeline.run(islice(opened, max_frames)), writers, "detect", total)
        return report_run(summary, len(opened.errors))
