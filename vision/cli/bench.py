"""``stride32 models bench``: what models cost and bring, so that a user can choose by accuracy, size and speed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vision.cli.extras import needs_extra
from vision.errors import ConfigError, OutputExistsError, closest_hint

if TYPE_CHECKING:
    from vision.bench.rows import BenchRow
    from vision.bench.subjects import Subject
    from vision.card import ModelCard
    from vision.types import ImageArray

KINDS = ("detector", "embedder", "classifier", "segmenter")
ENGINES: tuple[Literal["onnx", "torch"], ...] = ("onnx", "torch")
FILES = ("bench.csv", "bench.json", "bench.png")
SMALLEST_SIZE = 32


def bench_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Models or folders.", show_default="all installed")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="[KIND=]PATH",
            help="Measure accuracy on this data, such as detector=val.json.",
            show_default="the card's figures",
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="N,N",
            help="Longer sides of detectors', segmenters' and backbones' inputs.",
            show_default="the card's; 224",
        ),
    ] = None,
    backbones: Annotated[
        str | None,
        typer.Option("--backbones", metavar="A,B", help="Backbones without weights: time only.", show_default=False),
    ] = None,
    engines: Annotated[str, typer.Option("--engines", metavar="A,B", help="Engines on the CPU.")] = ",".join(ENGINES),
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", min=1, help="CPU threads of an engine.", show_default="all cores"),
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=3, help="Calls after the warm-up.")] = 30,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", help="Measure on this picture.", show_default="640 x 640 patches"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", metavar="N", min=1, help="Pictures of a detector's or segmenter's data.", show_default="all"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help=f"Write {', '.join(FILES)}.", show_default=False)
    ] = None,
    write_cards: Annotated[bool, typer.Option("--write-cards", help="Store the results in the models' cards.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> int:
    """Measure latency, size and accuracy of models side by side."""
    chosen_sizes, chosen_engines = _sizes(sizes), _engines(engines)
    _refuse_existing(out, overwrite)
    cards = _cards(names or [], only_backbones=bool(backbones) and not names)
    known_data = _data_by_kind(data or [], cards)
    with needs_extra("eval", "a benchmark"):
        from vision.bench.accuracy import Accuracy
        from vision.bench.machine import describe_machine
        from vision.bench.rows import measure_rows
        from vision.runtime.config import RuntimeConfig
        from vision.runtime.engine import default_threads
    image, picture_text = _picture(picture)
    subjects = _subjects(cards, (backbones or "").split(",") if backbones else [], chosen_sizes, image)
    machine = describe_machine()
    threads = threads or default_threads()
    runtime = RuntimeConfig(device="auto", threads=threads)
    rows = measure_rows(
        subjects,
        chosen_engines,
        threads=threads,
        repeats=repeats,
        metrics_of=Accuracy(known_data, limit, runtime).of,
        report=lambda line: typer.echo(line, err=True),
    )
    _print_table(rows, machine, picture_text)
    if out is not None:
        _write_files(out, rows, machine, picture_text)
    if write_cards:
        _write_cards(cards, rows, machine, picture_text)
    return 0


def _sizes(text: str | None) -> list[int]:
    parts = text.split(",") if text else []
    if any(not part.strip().isdigit() or int(part) < SMALLEST_SIZE for part in parts):
        raise ConfigError(f"--sizes must be numbers of pixels >= {SMALLEST_SIZE}, got {text!r}; write 320,416,512")
    return [int(part) for part in parts]


def _engines(text: str) -> list[Literal["onnx", "torch"]]:
    wanted = text.split(",")
    unknown = [name for name in wanted if name not in ENGINES]
    if unknown:
        raise ConfigError(
            f"--engines must be of {', '.join(ENGINES)}, got {unknown[0]!r}{closest_hint(unknown[0], ENGINES)}; "
            "torch on a GPU is measured by itself where there is one"
        )
    return [name for name in ENGINES if name in wanted]


def _refuse_existing(out: Path | None, overwrite: bool) -> None:
    for path in [] if out is None or overwrite else [out / name for name in FILES]:
        if path.exists():
            raise OutputExistsError(
                f"{path} exists already; pass --overwrite to replace it, or give another folder", path=path
            )


def _cards(names: Sequence[str], *, only_backbones: bool) -> list[ModelCard]:
    """Return the cards of the named models, or of all of the kinds that can be measured."""
    from vision.errors import ModelError
    from vision.store import find_model, list_models

    if only_backbones:
        return []
    cards = [find_model(name) for name in names] or [card for card in list_models() if card.kind in KINDS]
    for card in cards:
        if card.kind not in KINDS:
            raise ModelError(f"a model to measure must be one of {', '.join(KINDS)}, {card.name} is a {card.kind}")
    return cards


def _data_by_kind(texts: Sequence[str], cards: Sequence[ModelCard]) -> dict[str, Path]:
    """Return kind -> data of ``--data KIND=PATH``; a path alone is for the one kind that is measured."""
    found: dict[str, Path] = {}
    for text in texts:
        kind, separator, path = text.partition("=")
        if not separator:
            kinds = sorted({card.kind for card in cards})
            if len(kinds) != 1:
                raise ConfigError(
                    f"--data must say which kind of model it is for, got {text!r} with models of kind "
                    f"{', '.join(kinds) or 'none'}; write detector={text}"
                )
            kind, path = kinds[0], text
        if kind not in KINDS:
            raise ConfigError(
                f"--data must begin with one of {', '.join(KINDS)}, got {kind!r}{closest_hint(kind, KINDS)}; "
                "write detector=val.json"
            )
        found[kind] = Path(path)
    return found


def _picture(path: Path | None) -> tuple[ImageArray, str]:
    """Return the picture that is measured, and how it is called."""
    from vision.bench.subjects import PICTURE_SIDE, patch_picture
    from vision.io.images import read_image

    if path is None:
        return patch_picture(PICTURE_SIDE), f"{PICTURE_SIDE} x {PICTURE_SIDE} patches"
    image = read_image(path).image
    return image, f"{path.name}, {image.shape[1]} x {image.shape[0]}"


def _subjects(
    cards: Sequence[ModelCard], backbones: Sequence[str], sizes: Sequence[int], picture: ImageArray
) -> list[Subject]:
    from vision.bench.subjects import backbone_subjects, model_subjects

    found = [subject for card in cards for subject in model_subjects(card, sizes, picture)]
    found += [subject for name in backbones for subject in backbone_subjects(name.strip(), sizes, picture)]
    if not found:
        raise ConfigError("a benchmark needs a model, found none installed; name a folder, or --backbones resnet18")
    return found


def _print_table(rows: Sequence[BenchRow], machine: Mapping[str, Any], picture: str) -> None:
    """Print the rows; all columns also where no terminal says how wide it is."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from vision.bench.rows import table_cells

    cells = [table_cells(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, title=f"one picture ({picture}), whole call", title_justify="left")
    for name in cells[0]:
        table.add_column(name, justify="left" if name in ("model", "kind", "engine", "from") else "right")
    for row in cells:
        table.add_row(*row.values())
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    typer.echo(
        f"{machine['cpu']}, {machine['cores']} cores, {rows[0].threads or 'no'} CPU threads; "
        f"load before: {machine['load']}; stride32 {machine['versions']['stride32']}"
    )


def _write_files(out: Path, rows: Sequence[BenchRow], machine: Mapping[str, Any], picture: str) -> None:
    from vision.bench.plot import bench_figure
    from vision.bench.rows import to_csv, to_document
    from vision.figures import png_bytes
    from vision.io.writers.atomic import AtomicFile

    contents = {
        "bench.csv": to_csv(rows).encode(),
        "bench.json": (json.dumps(to_document(rows, machine, picture), indent=2) + "\n").encode(),
        "bench.png": png_bytes(bench_figure(rows)),
    }
    for name, content in contents.items():
        output = AtomicFile(out / name, overwrite=True)
        output.write(content)
        output.commit()
        typer.echo(f"wrote {out / name}")


def _write_cards(
    cards: Sequence[ModelCard], rows: Sequence[BenchRow], machine: Mapping[str, Any], picture: str
) -> None:
    from dataclasses import replace

    from vision.bench.rows import card_rows
    from vision.card import write_card

    for card in cards:
        own = [row for row in rows if row.name == card.name]
        write_card(card.folder, replace(card, latency=card_rows(card, own, machine, picture)))
        typer.echo(f"wrote {card.folder / 'card.toml'}")
