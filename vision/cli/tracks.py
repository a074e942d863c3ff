"""``stride32 tracks``: what is done to finished tracks; each command stands in a file of its own."""

from __future__ import annotations

import typer

from vision.cli import tracks_convert, tracks_count, tracks_plot, tracks_show, tracks_smooth

app = typer.Typer(help="Convert, smooth, count, draw and inspect files of tracks.", no_args_is_help=True)

app.command("convert")(tracks_convert.convert_command)
app.command("count")(tracks_count.count_command)
app.command("plot")(tracks_plot.plot_command)
app.command("show")(tracks_show.show_command)
app.command("smooth")(tracks_smooth.smooth_command)
