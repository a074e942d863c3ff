"""``stride32 models pull``: published weights into the cache, with what has come on stderr."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_PERIOD_S = 5.0


def pull_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Published weights; models list --remote has them all.")],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take this file, without the internet.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Get the file again if it is in the cache.")] = False,
) -> int:
    """Put published weights into the cache, checked by their sha256, and print the file's path."""
    from vision.remote import address, cached, known_weights, pull

    known = known_weights(name)
    if source is None and (force or cached(name) is None):
        typer.echo(f"{name}: {address(known)}\n{name}: {known.licence}; {known.terms}", err=True)
    with Received(name) as received:
        path = pull(name, source=source, force=force, report=received.report)
    typer.echo(str(path))
    return 0


class Received:
    """Shows the bytes that have come: a bar on a terminal, else a line every few seconds; use as a context manager."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._next_line_s = time.perf_counter() + LINE_PERIOD_S
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def report(self, done: int, total: int | None) -> None:
        """Show ``done`` bytes of ``total``, when it is time to."""
        if sys.stderr.isatty():
            self._show_bar(done, total)
        elif time.perf_counter() >= self._next_line_s:
            self._next_line_s = time.perf_counter() + LINE_PERIOD_S
            whole = "" if total is None else f"/{total / 1e6:.1f}"
            typer.echo(f"{self.label}: {done / 1e6:.1f}{whole} MB", err=True)

    def _show_bar(self, done: int, total: int | None) -> None:
        # The bar appears with the first bytes: a file that is in the cache already shows none.
        if self._bar is None or self._task is None:
            self._bar = _build_bar()
            self._task = self._bar.add_task(self.label, total=total, completed=done)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)


def _build_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
