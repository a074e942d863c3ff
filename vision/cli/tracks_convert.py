"""``stride32 tracks convert``: a file of tracks in another format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.exit_codes import OK
from vision.cli.options import Overwrite

TracksIn = Annotated[Path, typer.Argument(metavar="IN", help="MOTChallenge .txt, .csv, .parquet, .json or .jsonl.")]
TracksOut = Annotated[Path, typer.Argument(metavar="OUT", help="MOTChallenge .txt, .csv, .parquet or .json.")]
Fps = Annotated[
    float | None,
    typer.Option("--fps", metavar="F", help="Frames a second of the sequence.", show_default="the file's"),
]
ClassNames = Annotated[
    str | None,
    typer.Option("--class-names", metavar="A,B", help="Names of the labels 0, 1...", show_default="the file's"),
]


def convert_command(
    source: TracksIn,
    target: TracksOut,
    fps: Fps = None,
    class_names: ClassNames = None,
    overwrite: Overwrite = False,
) -> int:
    """Write a file of tracks in the format that the ending of OUT names."""
    from vision.io.tracks import read_track_file, write_tracks

    trajectories, header = read_track_file(source)
    if fps is not None:
        header = replace(header, fps=fps)
    if class_names is not None:
        header = replace(header, class_names=tuple(class_names.split(",")))
    write_tracks(trajectories, target, header=header, overwrite=overwrite)
    return OK
