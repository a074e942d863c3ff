"""Tracks of one sequence from a file and into one; the format follows from the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from vision.errors import InvalidInputError, closest_hint
from vision.io.tracks.header import TracksHeader
from vision.io.tracks.mot import MotLayout
from vision.tracking.trajectories import Trajectories

Format = Literal["mot", "csv", "parquet", "coco-video", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".txt": "mot",
    ".mot": "mot",
}


def read_tracks(path: str | Path, *, video: str | None = None) -> Trajectories:
    """Return the tracks of a file: see read_track_file, which also returns what the file says of its sequence."""
    return read_track_file(path, video=video)[0]


def read_track_file(path: str | Path, *, video: str | None = None) -> tuple[Trajectories, TracksHeader]:
    """Return the tracks of a file, and its header.

    Args:
        path: .txt or .mot (MOTChallenge), .csv, .parquet, .json (COCO-video), or .jsonl (of ``stride32 track``).
        video: name or id of the video to take from a COCO-video file that holds several.

    Raises:
        InvalidInputError: an unknown ending, a file that cannot be read, or content that does not fit; names the line,
            row or entry, what was expected and what was found.
        MissingDependencyError: Parquet without pyarrow.
    """
    path = Path(path)
    kind = format_of(path)
    if video is not None and kind != "coco-video":
        raise InvalidInputError(f"only a COCO-video file holds several videos, got {path}; leave video out", path=path)
    from vision.io.tracks import mot

    return mot.read_mot_tracks(path)


def write_tracks(
    trajectories: Trajectories,
    path: str | Path,
    *,
    header: TracksHeader | None = None,
    overwrite: bool = False,
    mot_layout: MotLayout = "result",
) -> None:
    """Write tracks into a file that appears under its name when it is complete.

    Args:
        trajectories: the rows.
        path: .txt or .mot (MOTChallenge), .csv, .parquet, or .json (COCO-video). docs/tracks.md says what each keeps.
        header: class names, frame rate, source, size and length of the sequence, for the formats that hold them.
        overwrite: replace a file that exists.
        mot_layout: columns of a MOTChallenge file: "result", or "gt" with classes.

    Raises:
        InvalidInputError: an ending that cannot be written.
        OutputExistsError: the file exists and ``overwrite`` is False.
        MissingDependencyError: Parquet without pyarrow.
    """
    path = Path(path)
    format_of(path)
    from vision.io.tracks import mot

    mot.write_mot_tracks(trajectories, path, layout=mot_layout, overwrite=overwrite)


def format_of(path: Path) -> Format:
    """Return the format that the ending of a file's name stands for, or raise InvalidInputError."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidInputError(
            f"a file of tracks must end in {', '.join(SUFFIXES)}, got {path.name!r}{closest_hint(suffix, SUFFIXES)}; "
            "rename it",
            expected=", ".join(SUFFIXES),
            actual=path.name,
            path=path,
        )
    return SUFFIXES[suffix]
