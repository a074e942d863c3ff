"""``stride32 tracks count``: what crosses lines and visits zones, from finished tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vision.cli import counts as counting
from vision.cli.exit_codes import OK
from vision.cli.options import Overwrite
from vision.errors import ConfigError

Tracks = Annotated[
    Path,
    typer.Argument(metavar="TRACKS", help="MOTChallenge .txt, .csv, .parquet, .json or .jsonl.", show_default=False),
]
Size = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Size of the frames in pixels.", show_default="the file's")
]
Fps = Annotated[
    float | None, typer.Option("--fps", metavar="F", help="Frames a second, for seconds.", show_default="the file's")
]
ClassNames = Annotated[
    str | None,
    typer.Option("--class-names", metavar="A,B", help="Names of the labels 0, 1...", show_default="the file's"),
]


def count_command(
    tracks: Tracks,
    count: Annotated[
        Path, typer.Option("--count", metavar="LINE.json", help="Lines and zones to count at.", show_default=False)
    ],
    events: counting.Events = None,
    counts: counting.Counts = None,
    size: Size = None,
    fps: Fps = None,
    class_names: ClassNames = None,
    overwrite: Overwrite = False,
) -> int:
    """Count finished tracks at lines and zones, as ``track --count`` counts them live; print the totals."""
    plan = counting.plan_counts(count, events, counts, None, None)
    size_hw = parse_size(size)
    assert plan.spec is not None
    from vision.analytics.counting import Counting, count_trajectories
    from vision.io.tracks import read_track_file
    from vision.io.writers.events import CountFiles, CountWriter

    trajectories, header = read_track_file(tracks)
    names = header.class_names if class_names is None else tuple(class_names.split(","))
    counters = Counting(plan.spec, class_names=names)
    files = CountFiles(events=plan.events, counts=plan.counts)
    writer = CountWriter(counters, files, source=header.source or str(tracks), overwrite=overwrite)
    try:
        found = count_trajectories(
            trajectories,
            counters,
            fps=header.fps if fps is None else fps,
            size_hw=size_hw or header.size_hw,
            frame_count=header.frame_count,
        )
        writer.add(found)
    except BaseException:
        writer.abort()
        raise
    writer.close()
    counting.print_counts([writer])
    return OK


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of a text like ``1920x1080``, or None for None.

    >>> parse_size("640x480")
    (480, 640)
    """
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise ConfigError(f"--size must be WIDTHxHEIGHT in pixels such as 1920x1080, got {text!r}; correct it")
    return int(height), int(width)
