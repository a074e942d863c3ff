"""``stride32 eval segmenter``: a segmenter measured on pictures with masks."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision.cli import options
from vision.cli.extras import needs_extra

if TYPE_CHECKING:
    from vision.config import PipelineConfig
    from vision.evaluation.segmentation import SegmentationMeter


def segmenter_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name or folder.", show_default=False)],
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Pictures and masks, as for training.", show_default=False)
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    holdout: Annotated[
        float,
        typer.Option(
            "--holdout", metavar="SHARE", min=0.0, max=0.99, help="Only what a training with this val_fraction kept."
        ),
    ] = 0.0,
    palette: Annotated[
        str, typer.Option("--palette", metavar="NAME", help="Colours of masks: index, voc, camvid or a file.")
    ] = "index",
    ignore: Annotated[
        int, typer.Option("--ignore", metavar="N", min=0, max=255, help="Mask value that is no class.")
    ] = 255,
    mask_classes: Annotated[
        str,
        typer.Option(
            "--mask-classes",
            metavar="A,B",
            help="Names of mask values 0, 1, ...",
            show_default="the data's or the model's",
        ),
    ] = "",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Use the first N pictures.", show_default="all")
    ] = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Print a table of the classes.")] = False,
    plots: Annotated[
        Path | None,
        typer.Option("--plots", metavar="DIR", help="Draw the confusion matrix there.", show_default=False),
    ] = None,
    weights: options.SegmenterWeights = None,
    tile: options.SegmenterTile = None,
    overlap: options.SegmenterOverlap = None,
    device: options.Device = None,
    overrides: options.Overrides = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Print mean IoU, pixel accuracy and border F1 of a segmenter; takes val/ of the data if there is one."""
    given = options.segmenter_overrides(model=model, weights=weights, tile=tile, tile_overlap=overlap)
    settings = options.pipeline_config(None, [*given, *(overrides or [])], device=device)
    if plots is not None:
        from vision.io.writers.images import prepare_folder

        with needs_extra("eval", "drawing the confusion matrix of a segmenter"):
            # Asked for before the pictures are measured: the figures import it only when they are drawn.
            import matplotlib  # noqa: F401

            from vision.evaluation.plots import confusion_figure
            from vision.figures import save_figure
        prepare_folder(plots, overwrite=overwrite)
    names = tuple(name.strip() for name in mask_classes.split(",") if name.strip())
    meter = _measure(settings, data, holdout=holdout, palette=palette, ignore=ignore, names=names, limit=limit)
    if plots is not None:
        title = f"Pixels of {meter.pictures} pictures, in % of each row"
        figure = confusion_figure(meter.confusion, meter.class_names, background=False, counts=False, title=title)
        save_figure(figure, plots / "confusion.png")
    if as_json:
        typer.echo(json.dumps(_as_dict(meter, per_class=per_class), indent=2))
    else:
        _print(meter, per_class=per_class)
    return 0


def _measure(
    settings: PipelineConfig,
    data: Path,
    *,
    holdout: float,
    palette: str,
    ignore: int,
    names: tuple[str, ...],
    limit: int | None,
) -> SegmentationMeter:
    """Return the meter after all pictures; what is wrong with pictures or masks is said before the first."""
    from contextlib import closing

    from vision.build import build_segmenter
    from vision.cli.progress import Progress
    from vision.evaluation.segmentation import measure_segmenter
    from vision.training.datasets.masks import check_masks
    from vision.training.datasets.measured_masks import measured_format, measured_pictures

    pairs = measured_pictures(data, holdout=holdout)[:limit]
    with closing(build_segmenter(settings.segmentation, settings.runtime)) as segmenter:
        # With some classes kept the numbers are new: a mask's 3 is no longer the model's.
        own = () if settings.segmentation.classes else segmenter.class_names
        form = measured_format(data, own, classes=names, ignore=ignore, palette=palette)
        check_masks(pairs, form)
        with Progress("eval", len(pairs), unit="pictures") as progress:
            return measure_segmenter(segmenter, pairs, form, advance=progress.advance)


def _as_dict(meter: SegmentationMeter, *, per_class: bool) -> dict[str, Any]:
    content: dict[str, Any] = {name: _number(value) for name, value in _totals(meter).items()}
    if per_class:
        content["classes"] = [
            {key: _number(value) if isinstance(value, float) else value for key, value in asdict(item).items()}
            for item in meter.classes()
        ]
        content["confusion"] = meter.confusion.tolist()
    return content


def _totals(meter: SegmentationMeter) -> dict[str, float]:
    from vision.evaluation.segmentation import PER_CLASS

    totals = {name: value for name, value in meter.scores().items() if not name.startswith(PER_CLASS)}
    return {**totals, "pictures": meter.pictures}


def _number(value: float) -> float | None:
    """Return a number as JSON has it: NaN is none."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _print(meter: SegmentationMeter, *, per_class: bool) -> None:
    for name, value in _totals(meter).items():
        typer.echo(f"{name:14} {value:.4f}" if isinstance(value, float) else f"{name:14} {value}")
    if not per_class:
        return
    columns = ("iou", "recall", "precision", "border_f1")
    rows = meter.classes()
    width = max(len("class"), *(len(item.name) for item in rows)) + 1
    typer.echo(f"\n{'class':{width}}{'pixels':>12}{'found':>12}" + "".join(f"{name:>10}" for name in columns))
    for item in rows:
        values = "".join(f"{_cell(getattr(item, name)):>10}" for name in columns)
        typer.echo(f"{item.name:{width}}{item.pixels:>12}{item.found_pixels:>12}{values}")


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
