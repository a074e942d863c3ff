"""``stride32 report``: the page of a training run, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision.cli.extras import needs_extra


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="Run the model on this validation data first.", show_default="as kept"
        ),
    ] = None,
) -> int:
    """Write RUN/report.html and RUN/figures/ again, and print the path of the page."""
    with needs_extra("train", "the report of a run"):
        from vision.training.report.write import write_report

        if data is not None:
            from vision.cli.progress import Progress
            from vision.training.report.measure import measure_run

            with Progress("report", None) as progress:
                measure_run(run, data, progress.advance)
    typer.echo(write_report(run))
    return 0
