"""Ground truth and results of one sequence, read and checked: what TrackEval would take for zeros is refused here."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError
from vision.evaluation.mot.layout import TEXT_SUFFIXES, sequence_folder
from vision.geometry.boxes import xyxy_to_xywh
from vision.io.images import IMAGE_SUFFIXES

Rows = npt.NDArray[np.float64]

PERSON = 1
UNKNOWN = -1
MOT17_CLASSES = range(1, 14)
# CVAT writes the names of its classes there, one a line, the first being class 1.
LABELS_FILE = "labels.txt"
# The shortest row of KITTI's tracking labels: frame, id, type and fourteen numbers.
_KITTI_COLUMNS = 17


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The annotated boxes of one sequence.

    Attributes:
        rows: float64 [R, 8]: frame from 1, id, x, y, w, h, 1 if scored, class (1 = person).
        length: frames in the sequence.
        has_classes: False for MOT15, whose files carry no class and so no distractors to forgive.
        is_benchmark: whether the classes are those of MOT16, 17 and 20, with their distractors.
        class_names: of ground truth with classes of its own; empty otherwise.
        size_wh: of a frame in pixels, or None when unknown.
    """

    rows: Rows
    length: int
    has_classes: bool
    is_benchmark: bool = False
    class_names: Mapping[int, str] = field(default_factory=dict)
    size_wh: tuple[int, int] | None = None


def read_ground_truth(path: Path) -> GroundTruth:
    """Return the checked ground truth of one file.

    Text in MOT15 (10 columns) or MOT16/17/20 (9 columns, also DanceTrack, SportsMOT and CVAT's export) layout, or any
    format that ``read_tracks`` knows. A ``labels.txt`` beside it names classes of its own.

    Raises:
        InvalidInputError: columns, classes, frames, ids or sizes do not fit.
    """
    info = _read_info(sequence_folder(path) / "seqinfo.ini")
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return _from_tracks(path, info)
    table = _read_table(path, "ground truth")
    if table.shape[1] not in (9, 10) or not len(table):
        raise InvalidInputError(
            "ground truth must have rows of 9 columns (MOT16, 17, 20: ..., active, class, visibility) or 10 (MOT15), "
            f"got {table.shape[0]} rows of {table.shape[1]} in {path.name}; convert the file",
            expected="9 or 10 columns",
            actual=str(table.shape[1]),
            path=path,
        )
    has_classes = table.shape[1] == 9
    names = _class_names(path) if has_classes else {}
    rows = np.column_stack([table[:, :7], table[:, 7] if has_classes else np.full(len(table), PERSON)])
    # The column is a flag; some sets write a confidence there. Anything but 0 is scored.
    rows[:, 6] = rows[:, 6] != 0
    if not names:
        _check_benchmark_classes(rows[:, 7], path)
    length = info.length or _count_pictures(path) or int(rows[:, 0].max())
    _check_rows(rows, length, path, has_length=bool(info.length))
    return GroundTruth(rows, length, has_classes, has_classes and not names, names, info.size_wh)


def read_results(path: Path, length: int) -> Rows:
    """Return the checked rows [R, 7] frame, id, x, y, w, h, class of the results for a sequence of ``length`` frames.

    The class is -1 where the file gives none. Text has at least 6 columns; the class is the eighth, if above 0.

    Raises:
        InvalidInputError: columns, frames, ids or sizes do not fit.
    """
    if path.suffix.lower() not in TEXT_SUFFIXES:
        rows = _track_rows(path)[0]
    else:
        table = _read_table(path, "results")
        if not len(table):
            return np.zeros((0, 7))
        if table.shape[1] < 6:
            raise InvalidInputError(
                f"results must have at least 6 columns frame,id,x,y,w,h, got {table.shape[1]} in {path.name}; "
                "write them with --mot",
                path=path,
            )
        classes = _result_classes(table)
        rows = np.column_stack([table[:, :6], classes])
    _check_rows(rows, length, path)
    return rows


@dataclass(frozen=True, slots=True)
class _Info:
    """What a seqinfo.ini says; None where it does not."""

    length: int | None = None
    size_wh: tuple[int, int] | None = None


def _read_info(path: Path) -> _Info:
    if not path.is_file():
        return _Info()
    parser = configparser.ConfigParser()
    try:
        parser.read(path)
        size = tuple(parser.getint("Sequence", key, fallback=0) for key in ("imWidth", "imHeight"))
        length = parser.getint("Sequence", "seqLength")
    except (configparser.Error, ValueError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"seqinfo.ini must have [Sequence] seqLength, failed: {exc}", path=path) from exc
    return _Info(length, (size[0], size[1]) if min(size) > 0 else None)


def _count_pictures(path: Path) -> int | None:
    """Return the number of pictures in img1 beside ``gt/``, or None; an export of CVAT has no seqinfo.ini."""
    folder = sequence_folder(path) / "img1"
    if not folder.is_dir():
        return None
    return sum(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.iterdir()) or None


def _class_names(path: Path) -> dict[int, str]:
    labels = path.parent / LABELS_FILE
    if not labels.is_file():
        return {}
    lines = [line.strip() for line in labels.read_text(encoding="utf-8-sig").splitlines()]
    return {number: name for number, name in enumerate(lines, start=1) if name}


def _check_benchmark_classes(classes: Rows, path: Path) -> None:
    unknown = np.setdiff1d(classes, MOT17_CLASSES)
    if len(unknown):
        raise InvalidInputError(
            f"ground truth classes (column 8) must be 1 to 13, got {unknown[0]:g} in {path.name}; "
            "class 1 is the person, files without classes have 10 columns; classes of your own need their names in "
            f"{LABELS_FILE} beside it, one a line from class 1",
            path=path,
        )


def _from_tracks(path: Path, info: _Info) -> GroundTruth:
    """Return ground truth from a file of tracks: every row counts, classes are those of the file."""
    rows, names, frame_count, size_wh = _track_rows(path)
    if not len(rows):
        raise InvalidInputError(f"ground truth must hold boxes, got none in {path.name}; check the file", path=path)
    full = np.column_stack([rows[:, :6], np.ones(len(rows)), rows[:, 6]])
    length = info.length or frame_count or int(rows[:, 0].max())
    _check_rows(full, length, path)
    return GroundTruth(full, length, True, class_names=names, size_wh=info.size_wh or size_wh)


def _track_rows(path: Path) -> tuple[Rows, dict[int, str], int | None, tuple[int, int] | None]:
    """Return rows [R, 7], names by class from 1, frames of the sequence and frame size of a file of tracks."""
    from vision.io.tracks import read_track_file

    tracks, header = read_track_file(path)
    boxes = xyxy_to_xywh(tracks.boxes.astype(np.float64))
    rows = np.column_stack([tracks.frames + 1, tracks.ids, boxes, tracks.labels + 1]).astype(np.float64)
    names = {label + 1: name for label, name in enumerate(header.class_names)}
    size_wh = None if header.size_hw is None else (header.size_hw[1], header.size_hw[0])
    return rows, names, header.frame_count, size_wh


def _result_classes(table: Rows) -> Rows:
    """Return the eighth column where every row has a class there, else -1: with ten columns it is a world position."""
    if table.shape[1] not in (8, 9) or (table[:, 7] < 1).any() or (table[:, 7] % 1 != 0).any():
        return np.full(len(table), float(UNKNOWN))
    return table[:, 7]


def _read_table(path: Path, what: str) -> Rows:
    """Return the numbers of a comma-separated file; [0, 0] when it is empty."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidInputError(f"{what} must be a text file, failed to read {path.name}: {exc}", path=path) from exc
    if not lines:
        return np.zeros((0, 0))
    try:
        return np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64)
    except ValueError as exc:
        raise InvalidInputError(
            f"{what} must be rows of numbers separated by commas, all of one length, failed on {path.name}: {exc}"
            f"{_table_hint(lines[0])}",
            path=path,
        ) from exc


def _table_hint(line: str) -> str:
    """Return what a first line that is no row of numbers looks like."""
    words = line.split()
    if len(words) >= _KITTI_COLUMNS and not words[2].replace(".", "").isdigit():
        return (
            "; these look like KITTI labels (frame id type truncated occluded alpha x1 y1 x2 y2 ...): write "
            "frame+1,id,x1,y1,x2-x1,y2-y1,1,class,1 with the classes you want"
        )
    if "," not in line and len(words) >= 6:
        return "; the columns are separated by spaces: put commas there"
    if any(cell.strip().isidentifier() for cell in line.split(",")):
        return "; the first line is a header: remove it, or name the file .csv if stride32 wrote it"
    return ""


def _check_rows(rows: Rows, length: int, path: Path, *, has_length: bool = True) -> None:
    """Raise unless frames are in 1..length, boxes finite, sizes >= 0, ids whole numbers >= 0 and single in a frame."""
    frames, ids = rows[:, 0], rows[:, 1]
    if not np.isfinite(rows).all():
        raise InvalidInputError(f"rows must be finite, got NaN or infinity in {path.name}; drop such rows", path=path)
    if len(rows) and ((frames < 1).any() or (frames > length).any() or (frames % 1 != 0).any()):
        raise InvalidInputError(
            f"frames must be whole numbers in 1..{length}, got {frames.min():g}..{frames.max():g} in {path.name}; "
            + _frames_advice(frames, has_length),
            path=path,
        )
    if (ids < 0).any() or (ids % 1 != 0).any():
        raise InvalidInputError(
            f"ids must be whole numbers >= 0, got {ids.min():g} in {path.name}; track the detections first",
            path=path,
        )
    if (rows[:, 4:6] < 0).any():
        row = int(np.flatnonzero((rows[:, 4:6] < 0).any(axis=1))[0])
        raise InvalidInputError(
            f"w and h must be >= 0, got {rows[row, 4]:g} and {rows[row, 5]:g} in frame {rows[row, 0]:g} of "
            f"{path.name}; columns 5 and 6 are width and height, not a corner",
            path=path,
        )
    pairs, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
    if (counts > 1).any():
        frame, identity = pairs[counts > 1][0]
        raise InvalidInputError(
            f"an id must occur once in a frame, got id {identity:g} twice in frame {frame:g} of {path.name}", path=path
        )


def _frames_advice(frames: Rows, has_length: bool) -> str:
    if frames.min() == 0:
        return "MOTChallenge counts frames from 1: add 1 to the first column"
    if not has_length and frames.min() >= 1:
        return "the pictures in img1 are fewer: complete them, or write seqLength into seqinfo.ini"
    return (
        "MOTChallenge counts frames from 1; without a seqinfo.ini (seqLength) a sequence ends at its last picture in "
        "img1 or, without pictures, its last annotated frame"
    )
