"""``stride32 models``: what is in the model store, and published weights that can be pulled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision.cli import average, bench, pull

if TYPE_CHECKING:
    from vision.card import ModelCard

app = typer.Typer(help="The models that are installed.", no_args_is_help=True)

README_HEAD = """# Models

The model store: one folder a model, with its card (`card.toml`) and its weights (`weights.safetensors`, never pickle).
`stride32 models show NAME` prints a card. This table is made from the cards:
`stride32 models list --markdown > models/README.md`.

"""


@app.command("list")
def list_command(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print models/README.md.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="List the published weights that pull knows.")] = False,
) -> int:
    """List the installed models."""
    from vision.store import list_models

    if remote:
        for line in remote_lines():
            typer.echo(line)
        return 0
    cards = list_models()
    if markdown:
        typer.echo(models_readme(cards), nl=False)
        return 0
    for card in cards:
        typer.echo(f"{card.name:24} {card.kind:12} {card.summary}")
    if not cards:
        typer.echo(
            "no models found; name their folder in STRIDE32_MODELS, or train one (stride32 train --help)", err=True
        )
    return 0


@app.command("show")
def show_command(name: Annotated[str, typer.Argument(metavar="NAME", help="Model name or folder.")]) -> int:
    """Print the card of one model."""
    from vision.store import find_model
    from vision.toml_text import format_toml

    card = find_model(name)
    typer.echo(f"# {card.folder}\n{format_toml(card.to_dict())}", nl=False)
    return 0


app.command("pull")(pull.pull_command)
app.command("average")(average.average_command)
app.command("bench")(bench.bench_command)


def remote_lines() -> Iterator[str]:
    """Yield one line for each published file: name, kind, size, whether it is in the cache, quality, licence."""
    from vision.remote import NAMES, cached, known_weights

    for name in NAMES:
        known = known_weights(name)
        size = "" if known.size_bytes is None else f"{known.size_bytes / 1e6:.0f} MB"
        state = "cached" if cached(name) else "-"
        yield f"{name:30} {known.kind:10} {size:>7} {state:6} {known.quality:38} {known.licence}; {known.terms}"


def models_readme(cards: Sequence[ModelCard]) -> str:
    """Return the text of ``models/README.md`` for ``cards``."""
    if not cards:
        return README_HEAD + "No models yet.\n"
    rows = ["| model | kind | what it does | metrics | weights | licence |", "|---|---|---|---|---|---|"]
    rows += [_readme_row(card) for card in cards]
    return README_HEAD + "\n".join(rows) + "\n"


def _readme_row(card: ModelCard) -> str:
    cells = (
        f"`{card.name}`",
        card.kind,
        card.summary,
        _metrics_text(card.metrics),
        _size_text(card.weights_path),
        card.licence,
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _metrics_text(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return "ap50 0.412, ap 0.201 on coco-person val" for a card's metrics, one line a data set."""
    by_dataset: dict[str, list[str]] = {}
    for metric in metrics:
        value = metric.get("value")
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        by_dataset.setdefault(str(metric.get("dataset", "")), []).append(f"{metric.get('name')} {shown}")
    lines = [", ".join(shown) + (f" on {dataset}" if dataset else "") for dataset, shown in by_dataset.items()]
    return "<br>".join(lines)


def _size_text(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB" if path.is_file() else "missing"
