"""``stride32 train``: detectors, an embedder and classifiers on your own data, from a TOML file or a few options."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision.cli.extras import needs_extra
from vision.cli.options import Overrides, PrintConfig

if TYPE_CHECKING:
    from vision.training.config import TrainingConfig

app = typer.Typer(help="Train detectors, an embedder or a classifier.", no_args_is_help=True)

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings of the run.", show_default=False)
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder.", show_default=False)]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Name of the exported model.", show_default=False)
]
Init = Annotated[
    str | None,
    typer.Option("--init", metavar="MODEL", help="Start from the weights of this model.", show_default=False),
]
Epochs = Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", metavar="N", min=0, show_default=False)]
TrainDevice = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda", show_default=False)]
Optimizer = Annotated[
    str | None, typer.Option("--optimizer", metavar="sgd|momentum|rmsprop|adam|adamw", show_default=False)
]
LearningRate = Annotated[
    float | None, typer.Option("--lr", metavar="RATE", help="Peak learning rate.", show_default=False)
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", metavar="N", min=1, help="Pictures in a batch.", show_default=False)
]
AutoBatch = Annotated[
    bool | None, typer.Option("--auto-batch", help="Take the largest batch that fits the memory.", show_default=False)
]
TimeBudget = Annotated[
    float | None,
    typer.Option("--time-budget", metavar="MINUTES", min=0.01, help="Train so long, not so many epochs."),
]
Resume = Annotated[
    bool | None,
    typer.Option("--resume/--no-resume", help="Go on from last.ckpt if it is there.", show_default="resume"),
]
Kind = Annotated[
    str,
    typer.Argument(
        metavar="KIND", help="detector, embedder, classifier, segmenter, window or roi-embedder.", show_default=False
    ),
]
File = typer.Option(metavar="DATA", help="COCO file, VOC folder or YOLO data.yaml.", show_default=False)


@app.command("detector")
def detector_command(
    config: ConfigArgument = None,
    train_data: Annotated[Path | None, File] = None,
    val_data: Annotated[Path | None, File] = None,
    out: Out = None,
    name: Name = None,
    init: Init = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an anchor detector on COCO, VOC or YOLO data."""
    return _train("detector", **locals())


@app.command("window")
def window_command(
    config: ConfigArgument = None,
    train_data: Annotated[Path | None, File] = None,
    val_data: Annotated[Path | None, File] = None,
    out: Out = None,
    name: Name = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train a sliding-window detector on the data that `train detector` takes."""
    return _train("window", **locals())


@app.command("embedder")
def embedder_command(
    config: ConfigArgument = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Crops, one folder a person.", show_default=False)
    ] = None,
    out: Out = None,
    name: Name = None,
    init: Init = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an appearance embedder on crops of persons."""
    return _train("embedder", **locals())


@app.command("segmenter")
def segmenter_command(
    config: ConfigArgument = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures and masks, or VOC.", show_default=False)
    ] = None,
    val_data: Annotated[Path | None, typer.Option(metavar="DIR", help="To validate on.", show_default=False)] = None,
    out: Out = None,
    name: Name = None,
    init: Init = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an FCN segmenter on pictures with index masks."""
    return _train("segmenter", **locals())


@app.command("roi-embedder")
def roi_embedder_command(
    config: ConfigArgument = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Crops, one folder a person.", show_default=False)
    ] = None,
    backgrounds: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Pictures to paste them onto.", show_default="plain colours")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Detector whose feature maps to use.", show_default="person-lite0"),
    ] = None,
    out: Out = None,
    name: Name = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train an embedder on the feature maps of a detector: appearance from one forward pass."""
    return _train("roi-embedder", **locals())


@app.command("classifier")
def classifier_command(
    config: ConfigArgument = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR|FILE.csv", help="One folder a class, or a table.", show_default=False),
    ] = None,
    val_data: Annotated[
        Path | None,
        typer.Option(metavar="DIR|FILE.csv", help="The same for validation.", show_default="val/ of data, or held out"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="multiclass|multilabel|regression", show_default="multiclass")
    ] = None,
    out: Out = None,
    name: Name = None,
    epochs: Epochs = None,
    time_budget: TimeBudget = None,
    optimizer: Optimizer = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    auto_batch: AutoBatch = None,
    seed: Seed = None,
    device: TrainDevice = None,
    resume: Resume = None,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> int:
    """Train a classifier of whole pictures: classes, several labels, or a value."""
    return _train("classifier", **locals())


def _train(kind: str, config: Path | None, overrides: list[str] | None, print_config: bool, **given: Any) -> int:
    """Train with the options that were given, or print the settings that they add up to."""
    given["time_budget_minutes"] = given.pop("time_budget")
    settings = load_training_config(kind, config, overrides, **given)
    if print_config:
        from vision.config import to_toml

        typer.echo(to_toml(settings), nl=False)
        return 0
    with needs_extra("train", f"training a model ({kind})"):
        from vision.training.kinds import recipe_of
        from vision.training.processes import is_first_process
        from vision.training.run import train
    log_to_stderr()
    folder = train(recipe_of(kind), settings)
    if is_first_process():
        typer.echo(folder)
    return 0


def load_training_config(
    kind: str, config: Path | None, overrides: list[str] | None, **options: object
) -> TrainingConfig:
    """Return the settings of a kind of model: the file, then the options that were given, then ``--set``."""
    from vision.config import load_config
    from vision.training.kinds import config_class

    return load_config(config, config_class(kind), [*_given(**options), *(overrides or [])])


def _given(**options: object) -> list[str]:
    """Return the options that were given as override texts; a path is quoted so that it cannot read as another type."""
    from vision.toml_text import format_toml

    return [format_toml({name: value}).strip() for name, value in options.items() if value is not None]


def log_to_stderr() -> None:
    """Show the progress messages of training, which are long runs without a bar."""
    logging.getLogger("vision").setLevel(logging.INFO)
