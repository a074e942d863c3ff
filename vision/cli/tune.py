"""``stride32 tune``: a search of settings, each trial a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision.cli.extras import needs_extra
from vision.cli.options import Overrides
from vision.cli.train import ConfigArgument, Kind, TrainDevice, load_training_config, log_to_stderr

PARAM_HELP = "What to search: KEY=log:LOW:HIGH, KEY=LOW:HIGH or KEY=A,B,C; repeat for more."


def tune(
    kind: Kind,
    config: ConfigArgument = None,
    param: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUES", help=PARAM_HELP, show_default=False)] = None,
    trials: Annotated[int, typer.Option(metavar="N", min=0, help="Trials in all.", show_default="20; grid: all")] = 0,
    method: Annotated[str, typer.Option(metavar="random|grid|tpe", help="How values are chosen.")] = "random",
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="Logged metric to optimise.", show_default="what chooses checkpoints")
    ] = "",
    minimize: Annotated[bool, typer.Option("--minimize", help="The metric is better low.")] = False,
    no_pruning: Annotated[bool, typer.Option("--no-pruning", help="Run hopeless trials to their end.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the search.", show_default="tune in the run folder")
    ] = None,
    device: TrainDevice = None,
    overrides: Overrides = None,
) -> int:
    """Search settings with Optuna; started again, the search goes on. Prints the file of the best settings."""
    from vision.training.kinds import config_class
    from vision.training.search_space import check_space, read_parameter

    settings = load_training_config(kind, config, overrides, device=device)
    parameters = tuple(read_parameter(text, config_class(kind)) for text in param or [])
    check_space(settings, parameters)
    with needs_extra("train", "a search of settings"):
        from vision.training.kinds import recipe_of
        from vision.training.run import prepare_process
        from vision.training.search import SearchPlan, search
    plan = SearchPlan(parameters, trials=trials, metric=metric, minimize=minimize, method=method, prune=not no_pruning)
    log_to_stderr()
    prepare_process(settings)
    typer.echo(search(recipe_of(kind), settings, plan, out or settings.out / "tune"))
    return 0
