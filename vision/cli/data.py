"""``stride32 data``: looking for faults in detection data, and writing it in another format."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli.exit_codes import OK, SOME_INPUTS_FAILED

if TYPE_CHECKING:
    from vision.training.datasets.annotations import DetectionAnnotations, Format

app = typer.Typer(help="Check and convert data for training a detector.", no_args_is_help=True)


class FormatName(StrEnum):
    """A format that can be written."""

    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"


Source = Annotated[Path, typer.Argument(metavar="SRC", help="COCO file, VOC folder, YOLO data.yaml or folder.")]
Target = Annotated[Path, typer.Argument(metavar="DST", help="New folder.")]
Copy = Annotated[bool, typer.Option("--copy", help="Copy the pictures instead of pointing to them.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]


@app.command("check")
def check_command(
    source: Source,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="DATA", help="Validation data of the same training.", show_default=False),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Draw some pictures with their boxes.", show_default=False),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE.json", help="Write all findings.", show_default=False)
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=0, help="Decoding threads; 0 takes the cores.")
    ] = 0,
    overwrite: Overwrite = False,
) -> int:
    """Look for faults in pictures and annotations; nothing is changed. Exit code 3 if there are errors."""
    from vision.cli.progress import Progress
    from vision.io.writers.atomic import AtomicFile, check_output
    from vision.runtime.cpus import available_cpus
    from vision.training.check.report import check_data, count_pictures, format_report

    for path in (sheet, json_path):
        if path is not None:
            check_output(path, overwrite=overwrite)
    parts = _read_parts(source, val)
    with Progress("check", count_pictures(parts), unit="pictures") as progress:
        report = check_data(parts, threads=threads or available_cpus(), advance=progress.advance)
    if json_path is not None:
        file = AtomicFile(json_path, overwrite=overwrite)
        file.write((json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n").encode())
        file.commit()
    if sheet is not None:
        from vision.training.check.sheet import write_sheet

        write_sheet(sheet, report, overwrite=overwrite)
    for line in format_report(report):
        typer.echo(line)
    return SOME_INPUTS_FAILED if report.counts["error"] else OK


@app.command("convert")
def convert_command(
    source: Source,
    target: Target,
    to: Annotated[FormatName, typer.Option("--to", help="Format to write.")],
    val_fraction: Annotated[
        float,
        typer.Option("--val-fraction", metavar="F", min=0, max=0.99, help="Share of pictures for validation; 0 keeps."),
    ] = 0.0,
    copy: Copy = False,
) -> int:
    """Write detection data in another format; the parts of SRC are kept, or made anew by --val-fraction."""
    return _convert(source, target, to.value, val_fraction, copy=copy)


@app.command("split")
def split_command(
    source: Source,
    target: Target,
    val_fraction: Annotated[
        float, typer.Option("--val-fraction", metavar="F", min=0.001, max=0.99, help="Share of validation pictures.")
    ] = 0.2,
    copy: Copy = False,
) -> int:
    """Write detection data in its own format, divided into train and val by a hash of the file names."""
    from vision.training.datasets.detection import recognize_format

    return _convert(source, target, recognize_format(source), val_fraction, copy=copy)


def _convert(source: Path, target: Path, kind: Format, val_fraction: float, *, copy: bool) -> int:
    """Convert, print what was written, and return the exit code."""
    from vision.training.convert.conversion import convert_data
    from vision.training.datasets.detection import report_findings

    parts = _read_parts(source, None)
    for part in parts.values():
        report_findings(part.findings)
    summary = convert_data(parts, target, kind, val_fraction=val_fraction, copy=copy)
    for line in summary.lines():
        typer.echo(line)
    return SOME_INPUTS_FAILED if summary.skipped else OK


def _read_parts(source: Path, val: Path | None) -> dict[str, DetectionAnnotations]:
    """Return the annotations by part: "train" and "val" when the data or ``val`` divide them, else "data"."""
    from vision.training.datasets.detection import find_parts, read_annotations

    if val is not None:
        return {"train": read_annotations(source, "train"), "val": read_annotations(val, "val")}
    parts = find_parts(source)
    if len(parts) < 2:
        return {"data": read_annotations(source)}
    return {part: read_annotations(source, part) for part in parts}
