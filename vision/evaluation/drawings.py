"""All drawings of a detector's evaluation by name: what ``eval detector --plots`` writes and a run's report shows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from vision.errors import InvalidInputError
from vision.evaluation.confusion import confusion_matrix
from vision.evaluation.curves import Threshold
from vision.evaluation.detection import DetectionScores
from vision.evaluation.pictures import error_sheet, false_detections, missed_objects, sample_sheet
from vision.evaluation.plots import confusion_figure, f1_figure, precision_recall_figure
from vision.figures import LIGHT, Theme
from vision.training.datasets.pictures import AnnotatedImage
from vision.types import Detections, ImageArray

log = logging.getLogger(__name__)


def draw_plots(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    class_names: Sequence[str],
    scores: DetectionScores,
    theme: Theme = LIGHT,
) -> dict[str, Any]:
    """Return matplotlib figures: precision-recall, f1 and confusion (at the threshold of the scores)."""
    best = Threshold(scores.metrics["f1_conf"], scores.metrics["f1"])
    matrix = confusion_matrix(images, found, len(class_names), conf=scores.conf)
    ap50 = [item.ap50 for item in scores.classes]
    return {
        "precision-recall": precision_recall_figure(scores.matches, class_names, ap50, theme),
        "f1": f1_figure(scores.matches, class_names, best, theme),
        "confusion": confusion_figure(
            matrix, class_names, theme, title=f"Confusion at IoU 0.5 and score {scores.conf:.2f}"
        ),
    }


def draw_pictures(
    images: Sequence[AnnotatedImage],
    found: Mapping[int, Detections],
    class_names: Sequence[str],
    scores: DetectionScores,
) -> dict[str, ImageArray]:
    """Return RGB sheets: predictions, false (detections) and missed (objects); those that have nothing to show, or
    whose pictures cannot be read, are left out."""
    wrong = false_detections(images, found, scores.matches, conf=scores.conf)
    missed = missed_objects(images, scores.matches, conf=scores.conf)
    try:
        sheets = {
            "predictions": sample_sheet(images, found, class_names, conf=scores.conf),
            "false": error_sheet(wrong, class_names),
            "missed": error_sheet(missed, class_names),
        }
    except InvalidInputError as exc:
        log.warning("no pictures are drawn: %s", exc)
        return {}
    return {name: sheet for name, sheet in sheets.items() if sheet is not None}
