"""``stride32 classify``: the class of each picture or frame as a whole, its labels, or a measured value."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from vision.classification.config import ClassifierConfig
from vision.cli import options


def classify(
    source: options.Source,
    jsonl: options.Jsonl = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE.csv", help="One row a class and frame.", show_default=False),
    ] = None,
    save_images: options.SaveImages = None,
    save_video: options.SaveVideo = None,
    heat: Annotated[
        Path | None,
        typer.Option("--heat", metavar="DIR", help="Pictures that show where the class is.", show_default=False),
    ] = None,
    heat_class: Annotated[
        str | None,
        typer.Option("--heat-class", metavar="NAME", help="Class of --heat.", show_default="each picture's best"),
    ] = None,
    heat_window: Annotated[
        int | None,
        typer.Option(
            "--heat-window", metavar="PX", min=0, help="Side of the windows of --heat.", show_default="the model's"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Classifier: name, folder, or a backbone with ImageNet weights.",
            show_default=ClassifierConfig().model,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", metavar="K", min=0, help="Classes a frame; 0 is all.", show_default=str(ClassifierConfig().top)
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            min=0.0,
            max=1.0,
            help="Lowest probability at which a multi-label class is assigned.",
            show_default="the model's",
        ),
    ] = None,
    device: options.Device = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    print_config: options.PrintConfig = False,
    overwrite: options.Overwrite = False,
    max_frames: options.MaxFrames = None,
) -> int:
    """Classify whole frames; without an output option, JSON lines go to stdout unless it is a terminal."""
    from vision.config import to_toml
    from vision.errors import ConfigError

    if heat is None and (heat_class is not None or heat_window is not None):
        raise ConfigError("--heat-class and --heat-window are settings of --heat, which is missing; pass --heat DIR")
    given = {
        "model": model,
        "top": top,
        "threshold": threshold,
        "heat_class": heat_class,
        "heat_window": heat_window,
    }
    # JSON writes texts and numbers as TOML does.
    texts = [f"classification.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    settings = options.pipeline_config(config, [*texts, *(overrides or [])], device=device)
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    from vision.cli.frames import expected_frames, report_run, write_frames
    from vision.cli.outputs import OutputPlan, RunFacts
    from vision.io.sources import open_source

    plan = OutputPlan(
        jsonl=jsonl, csv=csv, images=save_images, video=save_video, heat=heat, overwrite=overwrite
    ).or_stdout()
    plan.refuse_existing(source)
    with open_source(source) as opened:
        from vision.build import build_heat_annotator, build_pipeline, resolve_classifier

        settings = resolve_classifier(settings)
        total = expected_frames(opened, max_frames)
        with closing(build_pipeline(settings, detect=False, track=False, classify=True)) as pipeline:
            facts = RunFacts(
                settings=settings,
                source=source,
                class_names=pipeline.class_names,
                fps=opened.fps,
                relative_name=opened.relative_name,
                classifies=True,
                heat=None if heat is None else build_heat_annotator(settings.classification, settings.runtime),
            )
            with plan.open(facts) as writers:
                summary = write_frames(pipeline.run(islice(opened, max_frames)), writers, "classify", total)
        return report_run(summary, len(opened.errors))
