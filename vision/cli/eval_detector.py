"""``stride32 eval detector``: a detector, or a file of its results, measured on annotated pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision.cli import options
from vision.cli.extras import needs_extra
from vision.detection.config import EVALUATION_CONF, EVALUATION_MAX_DET
from vision.errors import ConfigError

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.evaluation.detection import DetectionScores
    from vision.evaluation.ground_truth import GroundTruth
    from vision.evaluation.voc import VocScores
    from vision.types import Detections


def detector_command(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Model name or folder.", show_default=False)
    ] = None,
    gt: Annotated[
        Path,
        typer.Option("--gt", metavar="DATA", help="COCO file, VOC folder or YOLO data.yaml.", show_default=False),
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE.json", help="COCO results in place of MODEL.", show_default=False),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Folder of the pictures.", show_default="beside the annotations"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use the first N pictures.", show_default="all")
    ] = None,
    long_side: Annotated[
        int | None,
        typer.Option("--long-side", metavar="N", min=32, help="Input size in pixels.", show_default="the card's"),
    ] = None,
    conf: Annotated[
        float | None,
        typer.Option(
            "--conf", min=0.0, max=1.0, help="Threshold of precision, recall and plots.", show_default="best F1"
        ),
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a table of the classes.")] = False,
    voc: Annotated[bool, typer.Option("--voc", help="Print VOC's AP over 11 points and by area.")] = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw curves, confusion and errors there.", show_default=False),
    ] = None,
    save_predictions: Annotated[
        Path | None,
        typer.Option("--save-predictions", metavar="FILE.json", help="Write COCO results.", show_default=False),
    ] = None,
    weights: options.DetectorWeights = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    device: options.Device = None,
    overrides: options.Overrides = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Print COCO's AP family, F1 and its threshold; --set detection.* applies, with a score threshold near 0."""
    if (model is None) == (results is None):
        raise ConfigError(
            f"eval detector needs either MODEL or --results FILE, got {'both' if model else 'neither'}; "
            "give one of them"
        )
    given = [f"detection.conf={EVALUATION_CONF}", f"detection.max_det={EVALUATION_MAX_DET}"]
    given += [] if long_side is None else [f"detection.long_side={long_side}"]
    settings = options.pipeline_config(
        None, [*given, *(overrides or [])], device=device, model=model, weights=weights, tile=tile, overlap=overlap
    )
    _refuse_existing(plots, save_predictions, overwrite=overwrite)
    with needs_extra("eval", "evaluating a detector"):
        from vision.evaluation.detection import score_detections
        from vision.evaluation.results import write_results
        from vision.evaluation.voc import voc_scores
    truth, found = _read(gt, results, images, limit) if results else _run(settings, gt, images, limit)
    scores = score_detections(truth.images, found, truth.class_names, conf=conf)
    voc_result = voc_scores(truth.images, found, len(truth.class_names)) if voc else None
    if save_predictions is not None:
        write_results(save_predictions, found, truth.category_ids, overwrite=overwrite)
    if plots is not None:
        _draw(plots, truth, found, scores)
    if as_json:
        typer.echo(json.dumps(_as_dict(scores, voc_result, per_class=per_class), indent=2))
    else:
        _print(scores, voc_result, per_class=per_class)
    return 0


def _refuse_existing(plots: Path | None, predictions: Path | None, *, overwrite: bool) -> None:
    """Refuse outputs that exist before anything slow begins."""
    from vision.io.writers.atomic import check_output
    from vision.io.writers.images import prepare_folder

    if predictions is not None:
        check_output(predictions, overwrite=overwrite)
    if plots is not None:
        prepare_folder(plots, overwrite=overwrite)


def _read(
    gt: Path, results: Path | None, images: Path | None, limit: int | None
) -> tuple[GroundTruth, dict[int, Detections]]:
    """Return the ground truth and the detections of a results file."""
    from dataclasses import replace

    from vision.evaluation.ground_truth import read_ground_truth
    from vision.evaluation.results import read_results

    assert results is not None
    truth = read_ground_truth(gt, pictures=images)
    found = read_results(results, truth)
    return replace(truth, images=truth.images[:limit]), found


def _run(
    settings: PipelineConfig, gt: Path, images: Path | None, limit: int | None
) -> tuple[GroundTruth, dict[int, Detections]]:
    """Return the ground truth of the classes that the detector knows, and its detections."""
    from dataclasses import replace

    from vision.build import build_detector
    from vision.cli.progress import Progress
    from vision.evaluation.detection import detect_images
    from vision.evaluation.ground_truth import RelabelledDetector, read_ground_truth
    from vision.training.datasets.pictures import readable_images

    detector = build_detector(settings.detection, settings.runtime)
    known = settings.detection.classes or detector.class_names
    truth = read_ground_truth(gt, known, pictures=images)
    truth = replace(truth, images=tuple(readable_images(truth.images[:limit])))
    relabelled = RelabelledDetector(detector, detector.class_names, truth.class_names)
    with Progress("eval", len(truth.images)) as progress:
        found = detect_images(relabelled, truth.images, progress.advance)
    return truth, found


def _draw(folder: Path, truth: GroundTruth, found: Mapping[int, Detections], scores: DetectionScores) -> None:
    """Write the plots and the pictures into ``folder``; pictures are left out when the images cannot be read."""
    from vision.evaluation.drawings import draw_pictures, draw_plots
    from vision.figures import save_figure, save_picture

    for name, figure in draw_plots(truth.images, found, truth.class_names, scores).items():
        save_figure(figure, folder / f"{name}.png")
    for name, sheet in draw_pictures(truth.images, found, truth.class_names, scores).items():
        save_picture(sheet, folder / f"{name}.png")


def _as_dict(scores: DetectionScores, voc: VocScores | None, *, per_class: bool) -> dict[str, Any]:
    from dataclasses import asdict

    content: dict[str, Any] = dict(scores.metrics)
    if voc is not None:
        content |= {"voc_ap11": voc.ap11, "voc_area": voc.area}
    if per_class:
        rows = [asdict(item) for item in scores.classes]
        for label, row in enumerate(rows):
            own = row.pop("own")
            row |= {"best_conf": own["conf"], "best_f1": own["f1"]}
            if voc is not None:
                row |= {"voc_ap11": voc.ap11_by_class[label], "voc_area": voc.area_by_class[label]}
        content |= {"conf": scores.conf, "classes": rows}
    return content


def _print(scores: DetectionScores, voc: VocScores | None, *, per_class: bool) -> None:
    lines = dict(scores.metrics)
    if voc is not None:
        lines |= {"voc_ap11": voc.ap11, "voc_area": voc.area}
    for name, value in lines.items():
        typer.echo(f"{name:14} {value:.4f}")
    if not per_class:
        return
    columns = ["objects", "ap", "ap50", "ap75", "precision", "recall", "f1", "best_conf"]
    columns += ["voc_ap11", "voc_area"] if voc is not None else []
    typer.echo(f"\nprecision, recall and f1 at IoU 0.5 and score {scores.conf:.4f}; -1: no objects of the class")
    width = max(len("class"), *(len(item.name) for item in scores.classes)) + 1
    typer.echo(f"{'class':{width}}" + "".join(f"{name:>10}" for name in columns))
    for label, item in enumerate(scores.classes):
        values = [item.ap, item.ap50, item.ap75, item.precision, item.recall, item.f1, item.own.conf]
        values += [voc.ap11_by_class[label], voc.area_by_class[label]] if voc is not None else []
        typer.echo(f"{item.name:{width}}{item.objects:>10}" + "".join(f"{value:>10.4f}" for value in values))
