"""Tracks of one sequence from a file and into one; the format follows from the file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from vision.errors import InvalidInputError, closest_hint
from vision.io.tracks.coco_video import read_coco_video_tracks, write_coco_video_tracks
from vision.io.tracks.csv import read_csv_tracks, write_csv_tracks
from vision.io.tracks.jsonl import read_jsonl_tracks
from vision.io.tracks.mot import MotLayout, read_mot_tracks, write_mot_tracks
from vision.io.tracks.parquet import read_parquet_tracks, write_parquet_tracks
from vision.io.writers.atomic import check_output
from vision.io.writers.parquet import require_pyarrow
from vision.io.writers.tracks_header import TracksHeader
from vision.tracking.trajectories import Trajectories

Format = Literal["mot", "csv", "parquet", "coco-video", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[str, Format] = {
    ".txt": "mot",
    ".mot": "mot",
    ".csv": "csv",
    ".parquet": "parquet",
    ".json": "coco-video",
    ".jsonl": "jsonl",
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
    if kind == "mot":
        return read_mot_tracks(path)
    if kind == "csv":
        return read_csv_tracks(path)
    if kind == "parquet":
        return read_parquet_tracks(path)
    if kind == "jsonl":
        return read_jsonl_tracks(path)
    return read_coco_video_tracks(path, video=video)


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
    kind = check_target(path, mot_layout=mot_layout, overwrite=overwrite)
    if kind == "mot":
        write_mot_tracks(trajectories, path, layout=mot_layout, overwrite=overwrite)
    elif kind == "csv":
        write_csv_tracks(trajectories, path, header=header, overwrite=overwrite)
    elif kind == "parquet":
        write_parquet_tracks(trajectories, path, header=header, overwrite=overwrite)
    else:
        write_coco_video_tracks(trajectories, path, header=header, overwrite=overwrite)


def check_target(path: Path, *, mot_layout: MotLayout = "result", overwrite: bool = False) -> Format:
    """Return the format that write_tracks would write; raises what it would raise, before there is a value."""
    kind = format_of(path)
    if kind == "jsonl":
        raise InvalidInputError(
            f"JSON lines are written by stride32 track alone, got {path}; write .csv, .parquet, .json or .txt",
            path=path,
        )
    if mot_layout != "result" and kind != "mot":
        raise InvalidInputError(f"only a MOTChallenge file has a layout, got {path}; leave it out", path=path)
    if kind == "parquet":
        require_pyarrow()
    check_output(path, overwrite=overwrite)
    return kind


def lost_columns(trajectories: Trajectories, kind: Format, *, mot_layout: MotLayout = "result") -> list[str]:
    """Return what of these rows the format has no place for, such as ``["classes"]``; empty when all of it is kept."""
    if kind != "mot" or len(trajectories) == 0:
        return []
    has_scores, has_classes = bool((trajectories.scores != 1).any()), bool(trajectories.labels.any())
    lost = ["scores"] if mot_layout == "gt" and has_scores else []
    lost += ["classes"] if mot_layout == "result" and has_classes else []
    return [*lost, "marks of filled rows"] if trajectories.filled.any() else lost


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
