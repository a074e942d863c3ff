"""The progress of a batch run on stderr: a bar on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import typer

from vision.batch.stats import RunProgress
from vision.cli.progress import LINE_PERIOD_S, build_bar

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID


class BatchProgress:
    """Shows what a run tells of itself; use as a context manager and pass ``show`` to ``run_batch``.

    The rate counts from the first word of the run, when its models are loaded, and leaves out what earlier runs did.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._latest: RunProgress | None = None
        self._before: RunProgress | None = None
        self._start_s = self._next_line_s = 0.0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: RunProgress) -> None:
        """Take in how far the run is, and show it when it is time to."""
        now_s = time.perf_counter()
        if self._before is None:
            self._begin(progress, now_s)
        self._latest = progress
        if self._bar is not None and self._task is not None:
            done = progress.skipped_items + progress.done_items
            self._bar.update(self._task, completed=done, total=progress.total_items, rate=self._words(now_s))
        elif now_s >= self._next_line_s:
            self._next_line_s = now_s + LINE_PERIOD_S
            typer.echo(self.line(now_s), err=True)

    def line(self, now_s: float) -> str:
        """Return the plain form, for logs; ``now_s`` is a time of ``time.perf_counter``."""
        if self._latest is None or self._before is None:
            return f"{self.label}: starting"
        latest = self._latest
        done = latest.skipped_items + latest.done_items
        text = f"{self.label}: {done}/{latest.total_items} items, {self._words(now_s)}"
        left_s = self._seconds_left(now_s)
        return text if left_s is None else f"{text}, {duration(left_s)} left"

    def _begin(self, progress: RunProgress, now_s: float) -> None:
        self._before, self._start_s, self._next_line_s = progress, now_s, now_s + LINE_PERIOD_S
        if progress.skipped_items:
            typer.echo(f"{self.label}: {progress.skipped_items} items were done before and are skipped", err=True)
        if sys.stderr.isatty():
            self._bar = build_bar()
            done = progress.skipped_items + progress.done_items
            self._task = self._bar.add_task(self.label, total=progress.total_items, completed=done, rate="")
            self._bar.start()

    def _words(self, now_s: float) -> str:
        assert self._latest is not None
        assert self._before is not None
        rate = (self._latest.rows - self._before.rows) / max(now_s - self._start_s, 1e-9)
        words = f"{rate:.1f} images/s"
        return f"{words}, {self._latest.failures} failed" if self._latest.failures else words

    def _seconds_left(self, now_s: float) -> float | None:
        assert self._latest is not None
        assert self._before is not None
        done = self._latest.done_items - self._before.done_items
        left = self._latest.total_items - self._latest.skipped_items - self._latest.done_items
        return max(left, 0) * (now_s - self._start_s) / done if done > 0 else None


def duration(seconds: float) -> str:
    """Return a time for people.

    >>> duration(42.4), duration(750), duration(100_000)
    ('42 s', '12 min 30 s', '27 h 46 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
