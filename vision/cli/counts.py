"""The options that count tracks and draw maps of them: what they plan, the writers they open, the lines they print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision.errors import ConfigError

if TYPE_CHECKING:
    from vision.analytics.counting import Counting
    from vision.analytics.overlay import CounterOverlay
    from vision.analytics.spec import CountSpec
    from vision.io.writers.base import Writer

Count = Annotated[
    Path | None,
    typer.Option("--count", metavar="LINE.json", help="Lines and zones to count at.", show_default=False),
]
Events = Annotated[
    Path | None,
    typer.Option(
        "--events", metavar="FILE", help="Crossings, entries and exits: .csv or .parquet.", show_default=False
    ),
]
Counts = Annotated[
    Path | None, typer.Option("--counts", metavar="FILE.json", help="The totals of --count.", show_default=False)
]
HeatmapFile = Annotated[
    Path | None,
    typer.Option("--heatmap", metavar="FILE.png", help="Picture of where objects were how often.", show_default=False),
]
TrajectoriesFile = Annotated[
    Path | None,
    typer.Option("--trajectories", metavar="FILE.png", help="Picture of the path of each track.", show_default=False),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountPlan:
    """What a run counts and draws; None is not wanted.

    Attributes:
        spec: lines and zones.
        events, counts: files of the counters.
        heatmap, trajectories: pictures.
    """

    spec: CountSpec | None = None
    events: Path | None = None
    counts: Path | None = None
    heatmap: Path | None = None
    trajectories: Path | None = None

    def __bool__(self) -> bool:
        return self.spec is not None or bool(self.paths())

    def paths(self) -> list[Path]:
        """Return every planned file."""
        return [path for path in (self.events, self.counts, self.heatmap, self.trajectories) if path is not None]

    def with_folder(self, folder: Path) -> CountPlan:
        """Return the plan with the files of the counters, where there are any, placed in ``folder``."""
        if self.spec is None:
            return self
        return replace(self, events=self.events or folder / "events.csv", counts=self.counts or folder / "counts.json")

    def build(self, class_names: Sequence[str], max_gap: int, source: str, overwrite: bool) -> Iterator[Writer]:
        """Yield the writers; that of the counters comes first, so that what is drawn holds the frame's own counts."""
        if self.spec is not None:
            from vision.analytics.counting import Counting
            from vision.io.writers.events import CountFiles, CountWriter

            counting = Counting(self.spec, class_names=class_names, max_gap=max_gap)
            files = CountFiles(events=self.events, counts=self.counts)
            yield CountWriter(counting, files, source=source, overwrite=overwrite)
        if self.heatmap is not None or self.trajectories is not None:
            from vision.io.writers.pictures import MapsWriter

            yield MapsWriter(heatmap=self.heatmap, trajectories=self.trajectories, overwrite=overwrite)


def plan_counts(
    count: Path | None, events: Path | None, counts: Path | None, heatmap: Path | None, trajectories: Path | None
) -> CountPlan:
    """Return the plan of the options, with the file of lines and zones read and checked.

    Raises:
        ConfigError: the file is wrong, or ``--events`` or ``--counts`` stands without ``--count``.
        InvalidInputError: events or a picture have an ending that cannot be written.
        MissingDependencyError: events as Parquet without pyarrow.
    """
    from vision.errors import InvalidInputError

    if count is None and (events is not None or counts is not None):
        raise ConfigError(
            "--events and --counts need --count LINE.json, got none; say which lines and zones to count at"
        )
    for path in (heatmap, trajectories):
        if path is not None and path.suffix.lower() != ".png":
            raise InvalidInputError(f"a map must end in .png, got {path.name!r}; rename it", path=path)
    if events is not None:
        from vision.io.writers.events import check_events_path

        check_events_path(events)
    spec = None
    if count is not None:
        from vision.analytics.spec import read_spec

        spec = read_spec(count)
    return CountPlan(spec=spec, events=events, counts=counts, heatmap=heatmap, trajectories=trajectories)


def find_counting(writers: Sequence[Writer]) -> Counting | None:
    """Return the counters of a run, or None when it counts nothing."""
    from vision.io.writers.events import CountWriter

    return next((writer.counting for writer in writers if isinstance(writer, CountWriter)), None)


def overlay_of(writers: Sequence[Writer]) -> CounterOverlay | None:
    """Return what draws the counters of a run into its pictures, or None when it counts nothing."""
    counting = find_counting(writers)
    if counting is None:
        return None
    from vision.analytics.overlay import CounterOverlay

    return CounterOverlay(counting)


def print_counts(writers: Sequence[Writer], *, to_stderr: bool = False) -> None:
    """Print a line for each counter of a run; on stderr where stdout carries other results."""
    counting = find_counting(writers)
    if counting is not None:
        for text in summary_lines(counting.totals()):
            typer.echo(text, err=to_stderr)


def summary_lines(totals: Mapping[str, Any]) -> list[str]:
    """Return the totals of ``Counting`` as one line a counter, and one a class where there are several.

    >>> line = {"in": 3, "out": 1, "classes": {"person": {"in": 3, "out": 1}}}
    >>> summary_lines({"lines": {"door": line}, "zones": {}})
    ['door: in 3, out 1']
    """
    lines: list[str] = []
    for kind, describe in (("lines", _describe_line), ("zones", _describe_zone)):
        for name, found in totals[kind].items():
            lines.append(f"{name}: {describe(found)}")
            if len(found["classes"]) > 1:
                lines += [f"  {class_name}: {describe(part)}" for class_name, part in found["classes"].items()]
    return lines


def _describe_line(found: Mapping[str, Any]) -> str:
    return f"in {found['in']}, out {found['out']}"


def _describe_zone(found: Mapping[str, Any]) -> str:
    dwell = found["dwell"]
    words = [f"entries {found['entries']}", f"exits {found['exits']}", f"inside at the end {found['present']}"]
    words += [f"{key} {found[key]}" for key in ("appeared", "vanished") if found[key]]
    if "peak" in found:
        words.append(f"most at once {found['peak']}")
    if dwell["mean_s"] is not None:
        words.append(f"dwell {dwell['mean_s']:.1f} s on average, {dwell['max_s']:.1f} s at most")
    elif dwell["mean_frames"] is not None:
        words.append(f"dwell {dwell['mean_frames']:.0f} frames on average, {dwell['max_frames']} at most")
    return ", ".join(words)
