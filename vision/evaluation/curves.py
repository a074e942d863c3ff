"""Precision, recall and F1 of a detector over its score threshold, and the threshold to use it with.

F1 at a threshold is the harmonic mean of precision and recall of the detections with at least that score, at overlap
0.5; with several classes it is the mean over those that have objects. ``best_threshold`` is where it is largest: one
number for all classes, because a detector is used with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vision.evaluation.matching import ClassMatches, ScoreArray

# A finer choice changes F1 by less than its noise; many classes on many pictures have millions of scores.
MOST_THRESHOLDS = 10_000


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score threshold and its F1 in [0, 1]."""

    conf: float
    f1: float


@dataclass(frozen=True, slots=True)
class ThresholdCheck:
    """Whether the best threshold of some pictures serves for others: each half of the pictures judges the other's.

    Attributes:
        halves: the best threshold of each half, and its F1 there.
        swapped_f1: F1 on each half with the threshold of the other one.
        common_f1: F1 on each half with the best threshold of all pictures.
    """

    halves: tuple[Threshold, Threshold]
    swapped_f1: tuple[float, float]
    common_f1: tuple[float, float]

    @property
    def cross_f1(self) -> float:
        """Mean F1 of thresholds on pictures that did not choose them."""
        return float(np.mean(self.swapped_f1))


def precision_recall(matches: ClassMatches) -> tuple[ScoreArray, ScoreArray]:
    """Return precision and recall, each float64 [D], of the detections down to each one by falling score."""
    right = np.cumsum(matches.correct)
    precision = right / np.arange(1, len(right) + 1)
    recall = right / max(matches.object_count, 1)
    return precision, recall


def counts_at(matches: ClassMatches, thresholds: ScoreArray) -> tuple[ScoreArray, ScoreArray]:
    """Return how many detections reach each threshold [T] and how many of those are right, both float64 [T]."""
    kept = np.searchsorted(-matches.scores, -np.asarray(thresholds, np.float64), side="right")
    right = np.concatenate([[0], np.cumsum(matches.correct)])
    return kept.astype(np.float64), right[kept].astype(np.float64)


def f1_at(matches: ClassMatches, thresholds: ScoreArray) -> ScoreArray:
    """Return F1 in [0, 1] of one class at each threshold [T]; 0 for a class without objects."""
    kept, right = counts_at(matches, thresholds)
    # 2 / (1 / precision + 1 / recall) in counts, which is defined without detections as well.
    return np.asarray(2 * right / np.maximum(kept + matches.object_count, 1))


def mean_f1_at(classes: Sequence[ClassMatches], thresholds: ScoreArray) -> ScoreArray:
    """Return F1 at each threshold [T], the mean over classes with objects; 0 when none has any."""
    present = [item for item in classes if item.object_count]
    if not present:
        return np.zeros(len(thresholds))
    return np.asarray(np.mean([f1_at(item, thresholds) for item in present], axis=0))


def best_threshold(classes: Sequence[ClassMatches]) -> Threshold:
    """Return the score threshold with the largest F1, the highest among equals; 0 and 0 without right detections."""
    scores = [item.scores[item.correct] for item in classes if item.object_count]
    # F1 can only rise where a right detection enters: the best threshold is the score of one.
    candidates = np.unique(np.concatenate(scores))[::-1] if scores else np.zeros(0)
    if not len(candidates):
        return Threshold(0.0, 0.0)
    if len(candidates) > MOST_THRESHOLDS:
        candidates = candidates[np.linspace(0, len(candidates) - 1, MOST_THRESHOLDS).round().astype(np.int64)]
    f1 = mean_f1_at(classes, candidates)
    best = int(f1.argmax())
    return Threshold(float(candidates[best]), float(f1[best]))


def check_threshold(classes: Sequence[ClassMatches]) -> ThresholdCheck | None:
    """Return how thresholds hold on other pictures than they were chosen on; None unless both halves have objects.

    The halves are every other picture in the order given, so they are the same at every call.
    """
    if not classes:
        return None
    even = np.arange(len(classes[0].objects_per_image)) % 2 == 0
    halves = [[item.of_images(chosen) for item in classes] for chosen in (even, ~even)]
    if not all(any(item.object_count for item in half) for half in halves):
        return None
    first, second = (best_threshold(half) for half in halves)
    common = best_threshold(classes).conf
    return ThresholdCheck(
        halves=(first, second),
        swapped_f1=(_f1(halves[0], second.conf), _f1(halves[1], first.conf)),
        common_f1=(_f1(halves[0], common), _f1(halves[1], common)),
    )


def _f1(classes: Sequence[ClassMatches], conf: float) -> float:
    return float(mean_f1_at(classes, np.array([conf]))[0])
