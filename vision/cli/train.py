"""``stride32 train``: detectors and an embedder on your own data, from one TOML file or a few ``--set``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.extras import needs_extra
from vision.cli.options import Overrides, PrintConfig

app = typer.Typer(help="Train detectors or an embedder.", no_args_is_help=True)

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings of the run.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder.", show_default=False)]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, show_default=False)]
TrainDevice = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda", show_default=False)]
File = typer.Option(metavar="FILE.json", show_default=False)


@app.command("detector")
def detector_command(
    config: ConfigArgument = None,
    train_data: Annotated[Path | None, File] = None,
    val_data: Annotated[Path | None, File] = None,
    out: Out = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: TrainDevice = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an anchor detector on COCO JSON data."""
    from vision.config import load_config, to_toml
    from vision.training.config import DetectorTrainingConfig

    given = _given(train_data=train_data, val_data=val_data, out=out, epochs=epochs, seed=seed, device=device)
    settings = load_config(config, DetectorTrainingConfig, [*given, *(overrides or [])])
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    with needs_extra("train", "training a detector"):
        from vision.training.fit import train_detector
    _log_to_stderr()
    typer.echo(train_detector(settings))
    return 0


@app.command("window")
def window_command(
    config: ConfigArgument = None,
    train_data: Annotated[Path | None, File] = None,
    val_data: Annotated[Path | None, File] = None,
    out: Out = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: TrainDevice = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train a sliding-window detector on the data that `train detector` takes."""
    from vision.config import load_config, to_toml
    from vision.training.window_config import WindowTrainingConfig

    given = _given(train_data=train_data, val_data=val_data, out=out, epochs=epochs, seed=seed, device=device)
    settings = load_config(config, WindowTrainingConfig, [*given, *(overrides or [])])
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    with needs_extra("train", "training a sliding-window detector"):
        from vision.training.fit_window import train_window
    _log_to_stderr()
    typer.echo(train_window(settings))
    return 0


@app.command("embedder")
def embedder_command(
    config: ConfigArgument = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Crops, one folder a person.", show_default=False)
    ] = None,
    out: Out = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: TrainDevice = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an appearance embedder on crops of persons."""
    from vision.config import load_config, to_toml
    from vision.training.embedder_config import EmbedderTrainingConfig

    given = _given(data=data, out=out, epochs=epochs, seed=seed, device=device)
    settings = load_config(config, EmbedderTrainingConfig, [*given, *(overrides or [])])
    if print_config:
        typer.echo(to_toml(settings), nl=False)
        return 0
    with needs_extra("train", "training an embedder"):
        from vision.training.fit_embedder import train_embedder
    _log_to_stderr()
    typer.echo(train_embedder(settings))
    return 0


def _given(**options: object) -> list[str]:
    """Return the options that were given as override texts; a path is quoted so that it cannot read as another type."""
    from vision.toml_text import format_toml

    return [format_toml({name: value}).strip() for name, value in options.items() if value is not None]


def _log_to_stderr() -> None:
    """Show the progress messages of training, which are long runs without a bar."""
    logging.getLogger("vision").setLevel(logging.INFO)
