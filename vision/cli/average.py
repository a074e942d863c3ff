"""``stride32 models average``: the mean of several trainings' weights as one model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli.extras import needs_extra
from vision.training.embedder_config import HOLDOUT_PEOPLE

if TYPE_CHECKING:
    from vision.card import ModelCard


def average_command(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Two or more, of one architecture.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the folder of the new model goes.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the new model.", show_default="the first one's")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Crops to measure an embedder on, for its card.", show_default=False
        ),
    ] = None,
    holdout: Annotated[
        int, typer.Option("--holdout", metavar="N", min=2, help="With --data: people that the parts held out.")
    ] = HOLDOUT_PEOPLE,
) -> int:
    """Average the weights of models that began alike, and print the new model's folder."""
    from vision.errors import InvalidInputError
    from vision.store import find_model

    cards = [find_model(model) for model in models]
    if data is not None and cards[0].kind != "embedder":
        raise InvalidInputError(f"--data measures embedders, got a {cards[0].kind}; leave it out, see stride32 eval")
    with needs_extra("train", "averaging models"):
        from vision.training.averaging import average_models
    chosen = name or cards[0].name
    card = average_models(cards, out / chosen, name=chosen)
    if data is not None:
        _measure(card, data, holdout)
    typer.echo(str(card.folder))
    return 0


def _measure(card: ModelCard, data: Path, holdout: int) -> None:
    """Write an embedder's scores on the last ``holdout`` people of ``data`` into its card."""
    from vision.card import write_card
    from vision.training.export_embedder import score_rows

    rows = score_rows(card, data, holdout=holdout)
    write_card(card.folder, dataclasses.replace(card, metrics=tuple(rows)))
    for row in rows:
        typer.echo(f"{row['name']} {row['value']}", err=True)
