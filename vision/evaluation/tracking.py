"""Scores of tracking results on MOTChallenge ground truth: HOTA, CLEAR MOT and identity metrics, computed by TrackEval.

TrackEval trusts its input: rows of the wrong layout give zeros instead of an error. So files are read and checked here,
rewritten in the one layout TrackEval understands, and only then scored by its own preprocessing and metrics.
"""

from __future__ import annotations

import configparser
import contextlib
import io
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError, MissingDependencyError

Scores = dict[str, float]
Rows = npt.NDArray[np.float64]

PERSON = 1
MOT17_CLASSES = range(1, 14)
SOURCES: dict[str, tuple[str, str]] = {
    "HOTA": ("HOTA", "HOTA"),
    "DetA": ("HOTA", "DetA"),
    "AssA": ("HOTA", "AssA"),
    "MOTA": ("CLEAR", "MOTA"),
    "IDF1": ("Identity", "IDF1"),
    "IDSW": ("CLEAR", "IDSW"),
    "FP": ("CLEAR", "CLR_FP"),
    "FN": ("CLEAR", "CLR_FN"),
    "GT": ("CLEAR", ""),
}
"""Our name of a score -> TrackEval's metric and field; GT counts the ground truth boxes that were scored."""
COUNTS = ("IDSW", "FP", "FN", "GT")


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """The annotated boxes of one sequence.

    Attributes:
        rows: float64 [R, 8]: frame from 1, id, x, y, w, h, 1 if scored, class (1 = person).
        length: frames in the sequence.
        has_classes: False for MOT15, whose files carry no class and so no distractors to forgive.
    """

    rows: Rows
    length: int
    has_classes: bool


def evaluate_mot(
    ground_truth: Path | str | Mapping[str, Path], results: Path | str | Mapping[str, Path]
) -> dict[str, Scores]:
    """Return the scores of each sequence, and of all together under ``"combined"``.

    HOTA, DetA, AssA, MOTA and IDF1 are percentages, IDSW, FP, FN and GT counts. HOTA, DetA and AssA are means over the
    19 localisation thresholds. MOT17 layouts score class 1 and forgive results on distractors; MOT15 layouts
    (10 columns) score every row whose seventh column is not 0.

    Args:
        ground_truth: folder of SEQ/gt/gt.txt with SEQ/seqinfo.ini beside, or a mapping of sequence to gt.txt. Without a
            seqinfo.ini a sequence ends at its last annotated frame.
        results: folder of SEQ.txt, or a mapping of sequence to file; rows ``frame,id,x,y,w,h[,score,...]``, frames
            from 1. Every sequence of the ground truth needs a file; an empty one means that nothing was tracked.

    Raises:
        InvalidInputError: a file is missing, or its columns, classes, frames or ids do not fit.
        MissingDependencyError: TrackEval is not installed.
    """
    trackeval = _import_trackeval()
    annotations = _ground_truth_files(ground_truth)
    tracked = _result_files(results, list(annotations))
    metrics = {name: getattr(trackeval.metrics, name)(*args) for name, args in _METRIC_ARGUMENTS.items()}
    parts: dict[str, dict[str, Any]] = {name: {} for name in metrics}
    scores: dict[str, Scores] = {}
    for sequence, path in annotations.items():
        truth = read_ground_truth(path)
        data = _preprocess(trackeval, sequence, truth, read_results(tracked[sequence], truth.length))
        if data["num_gt_dets"] == 0:
            raise InvalidInputError(
                f"ground truth of {sequence} must hold boxes to score, got {len(truth.rows)} rows, all ignored or of "
                "another class than 1; check the class and confidence columns",
                path=path,
            )
        for name, metric in metrics.items():
            parts[name][sequence] = metric.eval_sequence(data)
        scores[sequence] = _read_scores({name: part[sequence] for name, part in parts.items()})
    scores["combined"] = _read_scores({name: metric.combine_sequences(parts[name]) for name, metric in metrics.items()})
    return scores


_METRIC_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "HOTA": (),
    "CLEAR": ({"PRINT_CONFIG": False},),
    "Identity": ({"PRINT_CONFIG": False},),
}


def read_ground_truth(path: Path) -> GroundTruth:
    """Return the checked ground truth of one gt.txt in MOT15 (10 columns) or MOT16/17/20 (9 columns) layout."""
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
    rows = np.column_stack([table[:, :7], table[:, 7] if has_classes else np.full(len(table), PERSON)])
    # The column is a flag; some sets write a confidence there. Anything but 0 is scored.
    rows[:, 6] = rows[:, 6] != 0
    unknown = np.setdiff1d(rows[:, 7], MOT17_CLASSES)
    if len(unknown):
        raise InvalidInputError(
            f"ground truth classes (column 8) must be 1 to 13, got {unknown[0]:g} in {path.name}; "
            "class 1 is the person, files without classes have 10 columns",
            path=path,
        )
    length = _sequence_length(path) or int(rows[:, 0].max())
    _check_rows(rows, length, path)
    return GroundTruth(rows, length, has_classes)


def read_results(path: Path, length: int) -> Rows:
    """Return the checked rows [R, 6] frame, id, x, y, w, h of a result file for a sequence of ``length`` frames."""
    table = _read_table(path, "results")
    if not len(table):
        return np.zeros((0, 6))
    if table.shape[1] < 6:
        raise InvalidInputError(
            f"results must have at least 6 columns frame,id,x,y,w,h, got {table.shape[1]} in {path.name}; "
            "write them with --mot",
            path=path,
        )
    _check_rows(table[:, :6], length, path)
    return table[:, :6]


def _import_trackeval() -> ModuleType:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # Its plotting module warns about fonts and old numpy names on import; neither concerns scores.
            warnings.simplefilter("ignore")
            import trackeval
    except ImportError as exc:
        raise MissingDependencyError("trackeval", extra="eval", purpose="scoring tracks") from exc
    module: ModuleType = trackeval
    return module


def _ground_truth_files(ground_truth: Path | str | Mapping[str, Path]) -> dict[str, Path]:
    """Return sequence name -> gt.txt, sorted by name."""
    if isinstance(ground_truth, Mapping):
        files = {name: Path(path) for name, path in sorted(ground_truth.items())}
    else:
        files = {path.parents[1].name: path for path in sorted(Path(ground_truth).glob("*/gt/gt.txt"))}
    if not files:
        raise InvalidInputError(
            f"ground truth must lie in SEQ/gt/gt.txt, got none in {ground_truth}; pass the folder above the sequences"
        )
    if "combined" in files:
        raise InvalidInputError("a sequence must not be named 'combined', which names the total; rename the folder")
    return files


def _result_files(results: Path | str | Mapping[str, Path], sequences: list[str]) -> dict[str, Path]:
    """Return sequence name -> result file for every sequence, or raise with the names of the missing."""
    if isinstance(results, Mapping):
        files = {name: Path(results[name]) for name in sequences if name in results}
    else:
        files = {name: Path(results) / f"{name}.txt" for name in sequences}
    missing = [name for name in sequences if name not in files or not files[name].is_file()]
    if missing:
        raise InvalidInputError(
            f"results must hold one file SEQ.txt for each of {len(sequences)} sequences, got none for "
            f"{', '.join(missing)}; write an empty file where nothing was tracked"
        )
    return files


def _read_table(path: Path, what: str) -> Rows:
    """Return the numbers of a comma-separated file; [0, 0] when it is empty."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        if not lines:
            return np.zeros((0, 0))
        return np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(
            f"{what} must be rows of numbers separated by commas, all of one length, failed on {path.name}: {exc}",
            path=path,
        ) from exc


def _sequence_length(path: Path) -> int | None:
    """Return seqLength of the seqinfo.ini beside ``gt/``, or None when there is no such file."""
    info = path.parent.parent / "seqinfo.ini"
    if not info.is_file():
        return None
    parser = configparser.ConfigParser()
    try:
        parser.read(info)
        return parser.getint("Sequence", "seqLength")
    except (configparser.Error, ValueError) as exc:
        raise InvalidInputError(f"seqinfo.ini must have [Sequence] seqLength, failed: {exc}", path=info) from exc


def _check_rows(rows: Rows, length: int, path: Path) -> None:
    """Raise unless frames are in 1..length, boxes finite, ids whole numbers >= 0 and single in a frame."""
    frames, ids = rows[:, 0], rows[:, 1]
    if not np.isfinite(rows).all():
        raise InvalidInputError(f"rows must be finite, got NaN or infinity in {path.name}; drop such rows", path=path)
    if (frames < 1).any() or (frames > length).any() or (frames % 1 != 0).any():
        raise InvalidInputError(
            f"frames must be whole numbers in 1..{length}, got {frames.min():g}..{frames.max():g} in {path.name}; "
            "MOTChallenge counts frames from 1",
            path=path,
        )
    if (ids < 0).any() or (ids % 1 != 0).any():
        raise InvalidInputError(
            f"ids must be whole numbers >= 0, got {ids.min():g} in {path.name}; track the detections first",
            path=path,
        )
    pairs, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
    if (counts > 1).any():
        frame, identity = pairs[counts > 1][0]
        raise InvalidInputError(
            f"an id must occur once in a frame, got id {identity:g} twice in frame {frame:g} of {path.name}", path=path
        )


def _preprocess(trackeval: ModuleType, sequence: str, truth: GroundTruth, tracked: Rows) -> dict[str, Any]:
    """Return TrackEval's data of one sequence after its official preprocessing (distractors, ignored rows)."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        root = Path(folder)
        (root / "gt" / sequence / "gt").mkdir(parents=True)
        (root / "tracked" / "ours" / "data").mkdir(parents=True)
        np.savetxt(root / "gt" / sequence / "gt" / "gt.txt", truth.rows, fmt="%d,%d,%.17g,%.17g,%.17g,%.17g,%d,%d")
        padded = np.column_stack([tracked, np.ones(len(tracked))])
        np.savetxt(
            root / "tracked" / "ours" / "data" / f"{sequence}.txt", padded, fmt="%d,%d,%.17g,%.17g,%.17g,%.17g,%g,-1"
        )
        dataset = trackeval.datasets.MotChallenge2DBox(
            {
                "GT_FOLDER": str(root / "gt"),
                "TRACKERS_FOLDER": str(root / "tracked"),
                "TRACKERS_TO_EVAL": ["ours"],
                "BENCHMARK": "MOT17" if truth.has_classes else "MOT15",
                "SKIP_SPLIT_FOL": True,
                "SEQ_INFO": {sequence: truth.length},
                "PRINT_CONFIG": False,
            }
        )
        data: dict[str, Any] = dataset.get_preprocessed_seq_data(
            dataset.get_raw_seq_data("ours", sequence), "pedestrian"
        )
    return data


def _read_scores(results: Mapping[str, Mapping[str, Any]]) -> Scores:
    """Return our scores out of TrackEval's results by metric."""
    scores: Scores = {}
    for name, (metric, field) in SOURCES.items():
        if name == "GT":
            value = results["CLEAR"]["CLR_TP"] + results["CLEAR"]["CLR_FN"]
        else:
            value = np.mean(results[metric][field])
        scores[name] = int(value) if name in COUNTS else 100 * float(value)
    return scores
