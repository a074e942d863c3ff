"""``stride32 tracks convert``: a file of tracks in another format."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.exit_codes import OK
from vision.cli.options import Overwrite

logger = logging.getLogger(__name__)


class MotLayoutName(StrEnum):
    """Columns of a MOTChallenge file."""

    RESULT = "result"
    GT = "gt"


TracksIn = Annotated[Path, typer.Argument(metavar="IN", help="MOTChallenge .txt, .csv, .parquet, .json or .jsonl.")]
TracksOut = Annotated[Path, typer.Argument(metavar="OUT", help="MOTChallenge .txt, .csv, .parquet or .json.")]
Video = Annotated[
    str | None,
    typer.Option("--video", metavar="NAME", help="Which video of a .json that holds several.", show_default=False),
]
Fps = Annotated[
    float | None,
    typer.Option("--fps", metavar="F", help="Frames a second of the sequence.", show_default="the file's"),
]
ClassNames = Annotated[
    str | None,
    typer.Option("--class-names", metavar="A,B", help="Names of the labels 0, 1...", show_default="the file's"),
]
Layout = Annotated[MotLayoutName, typer.Option("--mot-layout", help="Columns of a .txt: gt has classes, no scores.")]


def convert_command(
    source: TracksIn,
    target: TracksOut,
    fps: Fps = None,
    class_names: ClassNames = None,
    video: Video = None,
    mot_layout: Layout = MotLayoutName.RESULT,
    overwrite: Overwrite = False,
) -> int:
    """Write a file of tracks in the format that the ending of OUT names."""
    from vision.errors import ConfigError
    from vision.io.tracks import read_track_file, write_tracks
    from vision.io.tracks.files import check_target, lost_columns

    if fps is not None and not 0 < fps < float("inf"):
        raise ConfigError(f"--fps must be above 0, got {fps}; leave it out when it is unknown")
    # Before reading: a file may be large, and a wrong name should not cost the wait.
    kind = check_target(target, mot_layout=mot_layout.value, overwrite=overwrite)
    if target.exists() and source.exists() and target.samefile(source):
        raise ConfigError(f"the output {target} is the input itself; give another path", path=target)
    trajectories, header = read_track_file(source, video=video)
    if fps is not None:
        header = replace(header, fps=fps)
    if class_names is not None:
        header = replace(header, class_names=tuple(name.strip() for name in class_names.split(",")))
    lost = lost_columns(trajectories, kind, mot_layout=mot_layout.value)
    if lost:
        logger.warning("%s has no place for %s, which are left out; see docs/tracks.md", target, " and ".join(lost))
    write_tracks(trajectories, target, header=header, overwrite=overwrite, mot_layout=mot_layout.value)
    typer.echo(f"{target}: {len(trajectories)} rows, {len(trajectories.track_ids)} tracks", err=True)
    return OK
