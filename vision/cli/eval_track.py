"""``stride32 eval track``: tracks of a tracker, or of a user's own video, scored on ground truth."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli import options
from vision.cli.extras import needs_extra
from vision.errors import ConfigError

if TYPE_CHECKING:
    from vision.evaluation.tracking import TrackingEvaluation

MAIN = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN", "GT")
MORE = ("DetRe", "DetPr", "AssRe", "AssPr", "MOTP", "IDR", "IDP", "MT", "PT", "ML")


def track_command(
    gt: Annotated[
        Path,
        typer.Option("--gt", metavar="DIR|FILE", help="Folder of SEQ/gt/gt.txt, or one file.", show_default=False),
    ] = ...,  # type: ignore[assignment]  # typer's mark of a required option
    results: Annotated[
        Path,
        typer.Option(
            "--results", metavar="DIR|FILE", help="Folder of SEQ.txt in MOT rows, or one file.", show_default=False
        ),
    ] = ...,  # type: ignore[assignment]
    classes: Annotated[
        str | None,
        typer.Option("--classes", metavar="A,B|all", help="Classes of the ground truth.", show_default="people"),
    ] = None,
    detail: Annotated[bool, typer.Option("--detail", help="Print the other scores in a second table.")] = False,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE.csv", help="Write all scores, one row a sequence.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="DIR", help="Write pages with tracks over time and switches.", show_default=False
        ),
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option(
            "--frames",
            metavar="DIR|VIDEO",
            help="Pictures for the switches of the report.",
            show_default="img1 beside the ground truth",
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Print HOTA, MOTA, IDF1 and counts of tracks for each sequence and together."""
    if frames is not None and report is None:
        raise ConfigError("--frames is for the pictures of a report, got no --report; add --report DIR")
    _refuse_existing(csv_file, report, overwrite=overwrite)
    evaluation = _evaluate(gt, results, classes)
    table = evaluation.table()
    if as_json:
        typer.echo(json.dumps(table, indent=2))
    else:
        _print(table, MAIN)
        if detail:
            typer.echo()
            _print(table, MORE)
    if csv_file is not None:
        _write_csv(csv_file, table, overwrite=overwrite)
    if report is not None:
        _write_report(evaluation, report, frames, overwrite=overwrite)
    return 0


def _refuse_existing(csv_file: Path | None, report: Path | None, *, overwrite: bool) -> None:
    """Refuse outputs that exist before anything slow begins."""
    from vision.io.writers.atomic import check_output
    from vision.io.writers.images import prepare_folder

    if csv_file is not None:
        check_output(csv_file, overwrite=overwrite)
    if report is not None:
        prepare_folder(report, overwrite=overwrite)


def _evaluate(gt: Path, results: Path, classes: str | None) -> TrackingEvaluation:
    from vision.cli.progress import Progress

    with needs_extra("eval", "scoring tracks"):
        from vision.evaluation.mot.layout import ground_truth_files
        from vision.evaluation.tracking import evaluate_tracks
    wanted = None if classes is None else [name.strip() for name in classes.split(",") if name.strip()]
    with Progress("eval", len(ground_truth_files(gt)), unit="sequences") as progress:
        return evaluate_tracks(gt, results, classes=wanted, on_sequence=lambda name: progress.advance())


def _write_report(evaluation: TrackingEvaluation, folder: Path, frames: Path | None, *, overwrite: bool) -> None:
    from vision.cli.progress import Progress

    with needs_extra("eval", "drawing a report of tracks"):
        from vision.evaluation.mot.report import write_track_report
    with Progress("report", len(evaluation.sequences), unit="pages") as progress:
        index = write_track_report(
            evaluation, folder, frames=frames, overwrite=overwrite, on_page=lambda title: progress.advance()
        )
    typer.echo(f"report: {index}", err=True)


def _print(table: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:
    width = max(12, *(len(title) for title in table)) + 1
    typer.echo(f"{'':{width}}" + "".join(f"{name:>7}" for name in names))
    for title, row in table.items():
        cells = (f"{row[name]:>7d}" if isinstance(row[name], int) else f"{row[name]:>7.2f}" for name in names)
        typer.echo(f"{title:{width}}" + "".join(cells))


def _write_csv(path: Path, table: Mapping[str, Mapping[str, float]], *, overwrite: bool) -> None:
    from vision.io.writers.atomic import AtomicFile

    names = list(next(iter(table.values())))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["sequence", *names])
    for title, row in table.items():
        writer.writerow([title, *(round(row[name], 6) for name in names)])
    output = AtomicFile(path, overwrite=overwrite)
    output.write(text.getvalue().encode("utf-8"))
    output.commit()
