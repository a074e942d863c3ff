"""``stride32 tracks plot``: where the objects of finished tracks were, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision.cli import counts as counting
from vision.cli.exit_codes import OK
from vision.cli.options import Overwrite
from vision.cli.tracks_count import Size, Tracks, parse_size
from vision.errors import InvalidInputError

if TYPE_CHECKING:
    from vision.tracking.trajectories import Trajectories
    from vision.types import ImageArray


def plot_command(
    tracks: Tracks,
    heatmap: counting.HeatmapFile = None,
    trajectories: counting.TrajectoriesFile = None,
    background: Annotated[
        Path | None,
        typer.Option("--background", metavar="FRAME.png", help="A picture of the scene.", show_default="a dark plane"),
    ] = None,
    size: Size = None,
    overwrite: Overwrite = False,
) -> int:
    """Draw a heat map of finished tracks, or the path of each, over a picture of the scene."""
    if heatmap is None and trajectories is None:
        raise typer.BadParameter("give --heatmap FILE.png, --trajectories FILE.png, or both")
    counting.plan_counts(None, None, None, heatmap, trajectories)
    size_hw = parse_size(size)
    from vision.analytics.pictures import HeatMap, PathMap, plain_background
    from vision.io.tracks import read_track_file
    from vision.io.writers.atomic import AtomicFile, check_output
    from vision.io.writers.pictures import write_png

    for path in (heatmap, trajectories):
        if path is not None:
            check_output(path, overwrite=overwrite)
    rows, header = read_track_file(tracks)
    scene = _read_scene(background, size_hw)
    if scene is None:
        scene = plain_background(size_hw or header.size_hw or _extent_hw(rows, tracks))
    if heatmap is not None:
        heat = HeatMap((scene.shape[0], scene.shape[1]))
        heat.add(rows.boxes)
        write_png(AtomicFile(heatmap, overwrite=overwrite), heat.draw(scene))
    if trajectories is not None:
        paths = PathMap((scene.shape[0], scene.shape[1]))
        for frame in dict.fromkeys(rows.frames.tolist()):
            seen = rows.at(frame)
            paths.add(frame, seen.ids, seen.boxes)
        write_png(AtomicFile(trajectories, overwrite=overwrite), paths.draw(scene))
    return OK


def _read_scene(background: Path | None, size_hw: tuple[int, int] | None) -> ImageArray | None:
    """Return the background's pixels, or None when there is none; both options must agree on the size."""
    if background is None:
        return None
    from vision.io.images import read_image

    scene = read_image(background).image
    if size_hw is not None and scene.shape[:2] != size_hw:
        raise InvalidInputError(
            f"--background must have the size of the frames, {size_hw[1]}x{size_hw[0]}, got "
            f"{scene.shape[1]}x{scene.shape[0]}; give a frame of the same video, or leave --size out"
        )
    return scene


def _extent_hw(rows: Trajectories, path: Path) -> tuple[int, int]:
    """Return the smallest frame that holds all boxes."""
    if not len(rows):
        raise InvalidInputError(
            f"{path} must hold a track when the size of the frames is unknown, found none; "
            "give --size 1920x1080 or --background FRAME.png",
            path=path,
        )
    right, bottom = rows.boxes[:, 2:].max(axis=0).tolist()
    return max(1, round(bottom)), max(1, round(right))
