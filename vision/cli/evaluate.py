"""``stride32 eval``: scores of a model or of tracking results on ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.eval_detector import detector_command
from vision.cli.eval_segmenter import segmenter_command
from vision.cli.eval_track import track_command
from vision.cli.extras import needs_extra
from vision.cli.options import Device, Overrides
from vision.errors import ConfigError
from vision.reid.config import EmbedderConfig
from vision.training.embedder_config import HOLDOUT_PEOPLE

app = typer.Typer(help="Measure a model or tracking results on ground truth.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]

app.command("detector")(detector_command)
app.command("segmenter")(segmenter_command)
app.command("track")(track_command)


@app.command("embedder")
def embedder_command(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Model name or folder.")] = EmbedderConfig().model,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Crops, one folder a person.", show_default=False)
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    holdout: Annotated[
        int, typer.Option("--holdout", metavar="N", min=0, help="People held out by training; 0 takes everybody.")
    ] = HOLDOUT_PEOPLE,
    exclude: Annotated[
        int, typer.Option("--exclude", metavar="N", min=0, help="People after those by id that are left out.")
    ] = 0,
    cameras: Annotated[
        str, typer.Option("--cameras", metavar="4,5,6", help="Crops of these cameras alone.", show_default="all")
    ] = "",
    height: Annotated[
        int, typer.Option("--height", metavar="PX", min=1, help="Of people, for a single-pass embedder.")
    ] = EmbedderConfig().crop_height,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Print rank-1, rank-5 and mAP of an embedder."""
    from vision.cli.options import pipeline_config

    config = pipeline_config(None, [], device=device)
    with needs_extra("eval", "evaluating an embedder"):
        from vision.build import build_embedder
        from vision.evaluation.reid import evaluate_reid
    embedder = build_embedder(replace(config.embedding, model=model, crop_height=height), config.runtime)
    assert embedder is not None
    chosen = _camera_numbers(cameras)
    _print_scores(evaluate_reid(embedder, data, holdout=holdout, exclude=exclude, cameras=chosen), as_json)
    return 0


@app.command("classifier")
def classifier_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name or folder.")],
    data: Annotated[
        Path,
        typer.Option("--data", metavar="DIR|FILE.csv", help="One folder a class, or a table.", show_default=False),
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    holdout: Annotated[
        float,
        typer.Option(
            "--holdout",
            metavar="SHARE",
            min=0.0,
            max=0.99,
            help="Only what a training with this val_fraction kept.",
        ),
    ] = 0.0,
    confusion: Annotated[bool, typer.Option("--confusion", help="Print the confusion matrix as well.")] = False,
    device: Device = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> int:
    """Print accuracy and F1, mAP, or errors of a classifier; takes val/ of the data if there is one."""
    from vision.cli.options import pipeline_config

    config = pipeline_config(None, overrides, device=device)
    with needs_extra("eval", "evaluating a classifier"):
        from vision.build import build_frame_classifier
        from vision.evaluation.classification import evaluate_classifier
    classifier = build_frame_classifier(replace(config.classification, model=model), config.runtime)
    scores = evaluate_classifier(classifier, data, holdout=holdout)
    matrix = scores.confusion if confusion else None
    if as_json:
        extra = {} if matrix is None else {"class_names": list(classifier.class_names), "confusion": matrix.tolist()}
        typer.echo(json.dumps({**scores.metrics, **extra}, indent=2))
        return 0
    _print_scores(scores.metrics, as_json)
    if matrix is not None:
        typer.echo("rows are true classes, columns predicted ones:")
        for name, row in zip(classifier.class_names, matrix.tolist(), strict=True):
            typer.echo(f"{name:20}" + "".join(f"{count:>6}" for count in row))
    return 0


def _camera_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in a text like "4,5,6"; an empty one names none."""
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(f"--cameras must be numbers joined by commas, got {text!r}; write 4,5,6") from None


def _print_scores(scores: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dict(scores), indent=2))
        return
    for name, value in scores.items():
        typer.echo(f"{name:14} {value:.4f}")
