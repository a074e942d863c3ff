"""``stride32 tracks smooth``: a file of finished tracks linked, cleared of short ones, smoothed and filled."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vision.cli import options
from vision.cli.exit_codes import OK
from vision.cli.tracks_convert import TracksIn, Video
from vision.tracking.offline_config import OfflineConfig

DEFAULTS = OfflineConfig()


class GapMethod(StrEnum):
    """How frames are filled in which a track was not seen."""

    NONE = "none"
    LINEAR = "linear"
    GAUSSIAN = "gaussian"
    RTS = "rts"


def _on_off(value: bool) -> str:
    return "on" if value else "off"


Out = Annotated[
    Path,
    typer.Option("--out", metavar="OUT", help="MOTChallenge .txt, .csv, .parquet or .json.", show_default=False),
]
Gaps = Annotated[
    GapMethod | None,
    typer.Option("--gaps", help="How to fill frames without a box.", show_default=DEFAULTS.gaps),
]
MaxGap = Annotated[
    int | None,
    typer.Option("--max-gap", metavar="N", min=0, help="Longest gap filled.", show_default=str(DEFAULTS.max_gap)),
]
Rts = Annotated[
    bool | None,
    typer.Option("--rts/--no-rts", help="Smooth seen boxes both ways in time.", show_default=_on_off(DEFAULTS.rts)),
]
Link = Annotated[
    bool | None,
    typer.Option("--link/--no-link", help="Join tracks of one object.", show_default=_on_off(DEFAULTS.link)),
]
MinLength = Annotated[
    int | None,
    typer.Option(
        "--min-length",
        metavar="N",
        min=0,
        help="Remove tracks seen in fewer frames.",
        show_default=str(DEFAULTS.min_length),
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option("--min-score", help="Remove tracks of a lower mean score.", show_default="keep all"),
]


def smooth_command(
    source: TracksIn,
    out: Out,
    gaps: Gaps = None,
    max_gap: MaxGap = None,
    rts: Rts = None,
    link: Link = None,
    min_length: MinLength = None,
    min_score: MinScore = None,
    video: Video = None,
    config: options.ConfigFile = None,
    overrides: options.Overrides = None,
    overwrite: options.Overwrite = False,
) -> int:
    """Improve the tracks of a file: remove short ones, smooth boxes, fill gaps, and join fragments if asked to."""
    from vision.config import PipelineConfig, apply_overrides, load_config
    from vision.errors import ConfigError
    from vision.io.tracks import read_track_file, write_tracks
    from vision.io.tracks.files import check_target

    given = {
        "gaps": gaps and f'"{gaps.value}"',
        "max_gap": max_gap,
        "rts": None if rts is None else str(rts).lower(),
        "link": None if link is None else str(link).lower(),
        "min_length": min_length,
        "min_score": min_score,
    }
    texts = [f"offline.{name}={value}" for name, value in given.items() if value is not None]
    settings = apply_overrides(load_config(config, PipelineConfig), [*texts, *(overrides or [])]).offline
    check_target(out, mot_layout="result", overwrite=overwrite)
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"the output {out} is the input itself; give another path", path=out)
    trajectories, header = read_track_file(source, video=video)
    from vision.tracking.offline import refine

    refined = refine(trajectories, settings)
    write_tracks(refined, out, header=header, overwrite=overwrite)
    typer.echo(
        f"{out}: {len(trajectories)} rows of {len(trajectories.track_ids)} tracks became {len(refined)} rows "
        f"({int(refined.filled.sum())} filled) of {len(refined.track_ids)} tracks",
        err=True,
    )
    return OK
