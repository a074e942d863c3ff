"""``stride32 tracks``: what is done to finished tracks; each command stands in a file of its own."""

from __future__ import annotations

import typer

from vision.cli import tracks_convert, tracks_show

app = typer.Typer(help="Convert and inspect files of tracks.", no_args_is_help=True)

app.command("convert")(tracks_convert.convert_command)
app.command("show")(tracks_show.show_command)
