"""``stride32 lr-find``: how high the learning rate of a run may go, by one short run in which it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision.cli.extras import needs_extra
from vision.cli.options import Overrides, Overwrite
from vision.cli.train import ConfigArgument, Kind, TrainDevice, load_training_config, log_to_stderr


def lr_find(
    kind: Kind,
    config: ConfigArgument = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the curve.", show_default="lr-find in the run folder")
    ] = None,
    low: Annotated[float, typer.Option("--from", metavar="RATE", help="First rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--to", metavar="RATE", help="Last rate.")] = 10.0,
    steps: Annotated[int, typer.Option(metavar="N", min=20, help="Steps over the whole range.")] = 150,
    device: TrainDevice = None,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> int:
    """Suggest a learning rate: half of the largest at which training is stable."""
    settings = load_training_config(kind, config, overrides, device=device)
    folder = out or settings.out / "lr-find"
    with needs_extra("train", "a learning-rate range test"):
        from vision.training.kinds import recipe_of
        from vision.training.lr_range import CURVE_CSV, CURVE_PNG, find_learning_rate, write_curve
        from vision.training.run import prepare_process
    from vision.io.writers.atomic import check_output

    for name in (CURVE_CSV, CURVE_PNG):
        check_output(folder / name, overwrite=overwrite)
    log_to_stderr()
    prepare_process(settings)
    found = find_learning_rate(settings, recipe_of(kind).prepare(settings), low=low, high=high, steps=steps)
    write_curve(found, folder)
    if not found.diverged:
        typer.echo(f"the loss did not run away up to {high:g}; a larger --to may find a larger rate", err=True)
    typer.echo(f"largest stable rate {found.largest_stable:.3g}; curve in {folder / CURVE_PNG}", err=True)
    typer.echo(f"{found.suggestion:.2g}")
    return 0
