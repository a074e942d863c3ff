"""Frames done, frames a second and time left on stderr: a bar on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

LINE_PERIOD_S = 5.0


class Progress:
    """Counts the frames of one run; use as a context manager.

    Args:
        label: what is done, shown at the head of the line.
        total: frames expected, or None for a stream or a video that does not say.
        unit: what is counted, in the plural.
    """

    def __init__(self, label: str, total: int | None, *, unit: str = "frames") -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.frames = 0
        self._start_s = time.perf_counter()
        self._end_s: float | None = None
        self._next_line_s = self._start_s + LINE_PERIOD_S
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._start_s = time.perf_counter()
        self._next_line_s = self._start_s + LINE_PERIOD_S
        if sys.stderr.isatty():
            self._bar = build_bar()
            self._task = self._bar.add_task(self.label, total=self.total, rate="")
            self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end_s = time.perf_counter()
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Wall seconds from entering to leaving (or to now)."""
        return (time.perf_counter() if self._end_s is None else self._end_s) - self._start_s

    @property
    def frames_per_s(self) -> float:
        """Mean rate over the whole run."""
        return self.frames / max(self.seconds, 1e-9)

    def advance(self) -> None:
        """Count one frame, and show it when it is time to."""
        self.frames += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=1, rate=f"{self.frames_per_s:.1f} {self.unit}/s")
        elif time.perf_counter() >= self._next_line_s:
            self._next_line_s += LINE_PERIOD_S
            typer.echo(self.line(), err=True)

    def line(self) -> str:
        """Return the plain form, for logs: frames, rate and time left when the total is known."""
        if self.total is None:
            return f"{self.label}: {self.frames} {self.unit}, {self.frames_per_s:.1f} {self.unit}/s"
        left_s = max(self.total - self.frames, 0) / max(self.frames_per_s, 1e-9)
        done, rate = f"{self.frames}/{self.total} {self.unit}", f"{self.frames_per_s:.1f} {self.unit}/s"
        return f"{self.label}: {done}, {rate}, {left_s:.0f} s left"


def build_bar() -> Bar:
    """Return a bar on stderr with the count, the field ``rate`` and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
