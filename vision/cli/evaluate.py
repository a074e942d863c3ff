"""``stride32 eval``: scores of a detector, of an embedder, or of tracking results, on ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.extras import needs_extra
from vision.cli.options import Device, Overrides
from vision.reid.config import EmbedderConfig
from vision.training.embedder_config import HOLDOUT_PEOPLE

app = typer.Typer(help="Measure a model or tracking results on ground truth.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Use the first N pictures.", show_default="all")
]
DETECTOR_SCORE_FLOOR = 0.01


@app.command("detector")
def detector_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name or folder.")],
    gt: Annotated[Path, typer.Option("--gt", metavar="DATA", help="COCO file, VOC folder or YOLO data.yaml.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Folder of the pictures.", show_default="beside the annotations"),
    ] = None,
    limit: Limit = None,
    device: Device = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> int:
    """Print COCO metrics of a detector; --set detection.* applies, with a score threshold near 0 unless set."""
    from vision.cli.options import pipeline_config

    given = [f"detection.conf={DETECTOR_SCORE_FLOOR}", "detection.max_det=100", *(overrides or [])]
    config = pipeline_config(None, given, device=device)
    config = replace(config, detection=replace(config.detection, model=model))
    with needs_extra("eval", "evaluating a detector"):
        from vision.build import build_detector
        from vision.evaluation.detection import evaluate_detector
        from vision.io.listing import relative_name
        from vision.training.datasets.detection import read_detection_data
    detector = build_detector(config.detection, config.runtime)
    annotated, class_names = read_detection_data(gt, detector.class_names, part="val")
    if images is not None:
        root = gt if gt.is_dir() else gt.parent
        annotated = [replace(item, path=images / relative_name(item.path, root)) for item in annotated]
    _print_scores(evaluate_detector(detector, annotated[:limit], class_names), as_json)
    return 0


@app.command("embedder")
def embedder_command(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Model name or folder.")] = EmbedderConfig().model,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Crops, one folder a person.", show_default=False)
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    holdout: Annotated[
        int, typer.Option("--holdout", metavar="N", min=0, help="People held out by training; 0 takes everybody.")
    ] = HOLDOUT_PEOPLE,
    device: Device = None,
    as_json: Json = False,
) -> int:
    """Print rank-1, rank-5 and mAP of an embedder."""
    from vision.cli.options import pipeline_config

    config = pipeline_config(None, [], device=device)
    with needs_extra("eval", "evaluating an embedder"):
        from vision.build import build_embedder
        from vision.evaluation.reid import evaluate_reid
    embedder = build_embedder(replace(config.embedding, model=model), config.runtime)
    assert embedder is not None
    _print_scores(evaluate_reid(embedder, data, holdout=holdout), as_json)
    return 0


@app.command("track")
def track_command(
    gt: Annotated[Path, typer.Option("--gt", metavar="DIR", help="Folder of SEQ/gt/gt.txt.")],
    results: Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder of SEQ.txt in MOT rows.")],
    as_json: Json = False,
) -> int:
    """Print HOTA, MOTA, IDF1 and counts of MOT results for each sequence and together."""
    with needs_extra("eval", "scoring tracks"):
        from vision.evaluation.tracking import evaluate_mot
    scores = evaluate_mot(gt, results)
    if as_json:
        typer.echo(json.dumps(scores, indent=2))
        return 0
    names = list(next(iter(scores.values())))
    typer.echo(f"{'':20}" + "".join(f"{name:>9}" for name in names))
    for sequence, row in scores.items():
        typer.echo(f"{sequence:20}" + "".join(f"{row[name]:>9.4g}" for name in names))
    return 0


def _print_scores(scores: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(dict(scores), indent=2))
        return
    for name, value in scores.items():
        typer.echo(f"{name:14} {value:.4f}")
