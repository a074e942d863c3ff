"""Scores of tracking results on ground truth: HOTA, CLEAR MOT and identity metrics, computed by TrackEval.

TrackEval trusts its input: rows of the wrong layout give zeros instead of an error. So files are read and checked
(``mot/files.py``, ``mot/fit.py``), what counts is chosen by MOTChallenge's rules (``mot/sequence.py``), and then its
metrics run.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.errors import InvalidInputError, MissingDependencyError
from vision.evaluation.mot.classes import Group, choose_groups
from vision.evaluation.mot.files import GroundTruth, Rows, read_ground_truth, read_results
from vision.evaluation.mot.fit import check_fit
from vision.evaluation.mot.layout import COMBINED, ground_truth_files, result_files
from vision.evaluation.mot.sequence import ScoredSequence, scored_sequence

__all__ = ["GroundTruth", "Scores", "TrackingEvaluation", "evaluate_mot", "evaluate_tracks", "read_ground_truth"]

log = logging.getLogger(__name__)

Scores = dict[str, float]

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
    "LocA": ("HOTA", "LocA"),
    "DetRe": ("HOTA", "DetRe"),
    "DetPr": ("HOTA", "DetPr"),
    "AssRe": ("HOTA", "AssRe"),
    "AssPr": ("HOTA", "AssPr"),
    "MOTP": ("CLEAR", "MOTP"),
    "IDR": ("Identity", "IDR"),
    "IDP": ("Identity", "IDP"),
    "Frag": ("CLEAR", "Frag"),
    "MT": ("CLEAR", "MT"),
    "PT": ("CLEAR", "PT"),
    "ML": ("CLEAR", "ML"),
}
"""Our name of a score -> TrackEval's metric and field; GT counts the ground truth boxes that were scored."""
COUNTS = ("IDSW", "FP", "FN", "GT", "Frag", "MT", "PT", "ML")
CURVES = ("HOTA", "DetA", "AssA", "LocA")
_METRIC_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "HOTA": (),
    "CLEAR": ({"PRINT_CONFIG": False},),
    "Identity": ({"PRINT_CONFIG": False},),
}


@dataclass(frozen=True, slots=True, eq=False)
class SequenceScores:
    """One sequence, or one class of it, as it was scored.

    Attributes:
        data: what was scored. group: the classes of it. scores: see evaluate_mot.
        curves: HOTA, DetA, AssA and LocA, float64 [19] in [0, 1], over the overlaps 0.05, 0.10 ... 0.95.
        truth_path: where the ground truth came from.
    """

    data: ScoredSequence
    group: Group
    scores: Scores
    curves: Mapping[str, npt.NDArray[np.float64]]
    truth_path: Path

    @property
    def title(self) -> str:
        """Name of the sequence, with its class where classes are scored apart."""
        return f"{self.data.name} {self.group.title}".rstrip()


@dataclass(frozen=True, slots=True, eq=False)
class TrackingEvaluation:
    """Scores of all sequences.

    Attributes:
        sequences: by name, then class.
        totals: of each class over all sequences by title, when classes are scored apart; then "combined".
        notes: what is doubtful about the files, each a sentence.
    """

    sequences: tuple[SequenceScores, ...]
    totals: Mapping[str, Scores]
    notes: tuple[str, ...] = ()

    def table(self) -> dict[str, Scores]:
        """Return the scores by title, totals last."""
        return {**{item.title: item.scores for item in self.sequences}, **self.totals}


def evaluate_mot(
    ground_truth: Path | str | Mapping[str, Path], results: Path | str | Mapping[str, Path]
) -> dict[str, Scores]:
    """Return the scores of each sequence, and of all together under ``"combined"``.

    IDSW, FP, FN, GT, Frag and MT, PT, ML are counts, the others percentages. The scores of HOTA's family are means over
    the 19 localisation thresholds. MOT17 layouts score class 1 and forgive results on distractors; MOT15 layouts
    (10 columns) score every row whose seventh column is not 0.

    Args:
        ground_truth: folder of SEQ/gt/gt.txt with SEQ/seqinfo.ini beside, one file, or a mapping of sequence to file.
            Without a seqinfo.ini a sequence ends at its last picture in img1, or at its last annotated frame.
        results: folder of SEQ.txt, one file for one sequence, or a mapping of sequence to file; rows
            ``frame,id,x,y,w,h[,score,...]``, frames from 1. Every sequence of the ground truth needs a file; an empty
            one means that nothing was tracked.

    Raises:
        InvalidInputError: a file is missing, its columns, classes, frames or ids do not fit, or its boxes are not of
            this video.
        MissingDependencyError: TrackEval is not installed.
    """
    return evaluate_tracks(ground_truth, results).table()


def evaluate_tracks(
    ground_truth: Path | str | Mapping[str, Path],
    results: Path | str | Mapping[str, Path],
    *,
    classes: Sequence[str] | None = None,
    on_sequence: Callable[[str], None] | None = None,
) -> TrackingEvaluation:
    """Return the evaluation behind evaluate_mot: scores, curves, and what was scored of each sequence.

    Args:
        ground_truth, results: as evaluate_mot.
        classes: numbers or names of the ground truth's classes, or ["all"]. With classes in the results each is scored
            apart, otherwise all of them together; nothing is forgiven then. By default MOT17's rule for its layout, and
            all classes of files that name their own.
        on_sequence: called with the name of each sequence when it is done.

    Raises:
        InvalidInputError, MissingDependencyError: as evaluate_mot; also a class that the ground truth does not have.
    """
    trackeval = _import_trackeval()
    annotations = ground_truth_files(ground_truth)
    tracked_files = result_files(results, annotations)
    truths = {name: read_ground_truth(path) for name, path in annotations.items()}
    tracked = {name: read_results(tracked_files[name], truth.length) for name, truth in truths.items()}
    notes: list[str] = []
    for name, truth in truths.items():
        notes += check_fit(name, truth.rows, tracked[name], tracked_files[name], truth.size_wh)
    groups, class_notes = choose_groups(truths, tracked, classes)
    for note in (*notes, *class_notes):
        log.warning("%s", note)
    run = _Run(trackeval)
    for name, truth in truths.items():
        for group in groups:
            run.add(name, truth, tracked[name], group, annotations[name])
        if on_sequence is not None:
            on_sequence(name)
    return TrackingEvaluation(tuple(run.sequences), run.totals(), (*notes, *class_notes))


class _Run:
    """TrackEval's metrics and what they have answered so far."""

    def __init__(self, trackeval: ModuleType) -> None:
        self._metrics = {name: getattr(trackeval.metrics, name)(*args) for name, args in _METRIC_ARGUMENTS.items()}
        self._answers: list[dict[str, Any]] = []
        self.sequences: list[SequenceScores] = []

    def add(self, name: str, truth: GroundTruth, tracked: Rows, group: Group, path: Path) -> None:
        """Score one class group of one sequence; a class that a sequence lacks is left out of it."""
        data = scored_sequence(name, truth, tracked, group.classes, by_class=group.by_class)
        if not len(data.objects):
            if group.by_class and not len(data.results):
                return
            if not group.by_class:
                raise _nothing_to_score(name, truth, group, path)
        inputs = data.trackeval_data()
        with contextlib.redirect_stdout(io.StringIO()):
            answer = {key: metric.eval_sequence(inputs) for key, metric in self._metrics.items()}
        self._answers.append(answer)
        curves = {key: np.asarray(answer["HOTA"][key], np.float64) for key in CURVES}
        self.sequences.append(SequenceScores(data, group, _read_scores(answer), curves, path))

    def totals(self) -> dict[str, Scores]:
        """Return the combined scores: of each class where there are several, and of everything."""
        titles = list(dict.fromkeys(item.group.title for item in self.sequences))
        totals = {}
        if len(titles) > 1:
            totals = {f"{COMBINED} {title}": self._combine(title) for title in titles}
        return {**totals, COMBINED: self._combine(None)}

    def _combine(self, title: str | None) -> Scores:
        chosen = {
            str(place): answer
            for place, (item, answer) in enumerate(zip(self.sequences, self._answers, strict=True))
            if title is None or item.group.title == title
        }
        return _read_scores(
            {
                name: metric.combine_sequences({place: answer[name] for place, answer in chosen.items()})
                for name, metric in self._metrics.items()
            }
        )


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


def _nothing_to_score(name: str, truth: GroundTruth, group: Group, path: Path) -> InvalidInputError:
    wanted = "class 1" if group.classes is None else f"classes {', '.join(map(str, group.classes))}"
    found = ", ".join(f"{value:g}" for value in np.unique(truth.rows[:, 7]).tolist())
    return InvalidInputError(
        f"ground truth of {name} must hold boxes of {wanted} to score, got {len(truth.rows)} rows of class {found}, "
        "all ignored or of other classes; check the class and confidence columns, or choose others with --classes",
        path=path,
    )


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
