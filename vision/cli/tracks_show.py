"""``stride32 tracks show``: what a file of tracks holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vision.cli.exit_codes import OK
from vision.cli.tracks_convert import TracksIn, Video


def show_command(
    source: TracksIn,
    video: Video = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> int:
    """Print frames, tracks, the longest of them, gaps and the mean score of a file of tracks."""
    from vision.io.tracks import read_track_file
    from vision.io.tracks.summary import summarize

    summary = summarize(*read_track_file(Path(source), video=video))
    for line in [json.dumps(summary.to_dict())] if as_json else summary.lines():
        typer.echo(line)
    return OK
