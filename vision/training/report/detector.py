"""The report of a detector: curves, confusion, detections beside the ground truth, the errors that cost most."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from vision.card import ModelCard
from vision.evaluation.detection import DetectionScores, score_detections
from vision.evaluation.drawings import draw_pictures, draw_plots
from vision.evaluation.ground_truth import GroundTruth
from vision.evaluation.pictures import false_detections
from vision.evaluation.voc import voc_scores
from vision.figures import DARK, LIGHT
from vision.report.content import Content, Picture, Table, columns, photo, plot, share
from vision.training.report.answers import load_detections
from vision.types import Detections

ERROR_KINDS = {
    "loose box": "an object of the class is there, but the box overlaps it by less than half",
    "duplicate": "the object was found already, by a surer box",
    "wrong class": "the box fits an object of another class",
    "background": "nothing annotated is there; look at the pictures, the annotation may be missing",
    "missed": "no detection of the class with this score overlaps the object by half",
}


def detector_content(out: Path, card: ModelCard) -> Content:
    """Return what the report of a detector's run shows."""
    answers = load_detections(out)
    if answers is None:
        return Content(notes=["The run folder has no detections; stride32 report RUN --data DATA makes them."])
    truth, found = answers
    scores = score_detections(truth.images, found, truth.class_names)
    content = Content(tiles=_tiles(scores), plots=_plots(truth, found, scores))
    content.tables = [_class_table(truth, found, scores), _error_table(truth, found, scores)]
    if scores.check is not None:
        content.tables.append(_threshold_table(scores))
    content.photos = _photos(truth, found, scores)
    if not content.photos:
        content.notes.append("The validation pictures could not be read, so none are shown.")
    return content


def _tiles(scores: DetectionScores) -> list[tuple[str, str]]:
    metrics = scores.metrics
    return [
        ("AP50", share(metrics["ap50"])),
        ("AP", share(metrics["ap"])),
        ("F1", share(metrics["f1"])),
        ("best threshold", share(metrics["f1_conf"])),
    ]


def _plots(truth: GroundTruth, found: dict[int, Detections], scores: DetectionScores) -> list[Picture]:
    by_theme = {
        theme.background: draw_plots(truth.images, found, truth.class_names, scores, theme) for theme in (LIGHT, DARK)
    }
    texts = {
        "precision-recall": ("Precision and recall", "From the surest detections (left) to all of them (right)."),
        "f1": ("F1 over the threshold", "The marked threshold is in the card and the default of detection.conf."),
        "confusion": (
            "Confusion",
            "A row is what an object really was, a column what it was found as; background is no object or no box.",
        ),
    }

    def draw(name: str) -> Any:
        return lambda theme: by_theme[theme.background][name]

    return [plot(name, title, caption, draw(name)) for name, (title, caption) in texts.items()]


def _class_table(truth: GroundTruth, found: dict[int, Detections], scores: DetectionScores) -> Table:
    voc = voc_scores(truth.images, found, len(truth.class_names))
    rows = [
        columns(
            *(item.name, item.objects, item.ap, item.ap50, item.ap75, item.precision, item.recall, item.f1),
            *(item.own.conf, voc.ap11_by_class[label], voc.area_by_class[label]),
        )
        for label, item in enumerate(scores.classes)
    ]
    return Table(
        "Classes",
        (
            *("class", "objects", "AP", "AP50", "AP75", "precision", "recall", "F1"),
            *("own best threshold", "VOC 11 points", "VOC area"),
        ),
        tuple(rows),
        f"Precision, recall and F1 at IoU 0.5 and the common threshold {scores.conf:.3f}.",
    )


def _error_table(truth: GroundTruth, found: dict[int, Detections], scores: DetectionScores) -> Table:
    counts = Counter(error.kind for error in false_detections(truth.images, found, scores.matches, conf=scores.conf))
    right = sum(int((item.correct & (item.scores >= scores.conf)).sum()) for item in scores.matches)
    counts["missed"] = sum(item.object_count for item in scores.matches) - right
    rows = [(kind, str(counts[kind]), text) for kind, text in ERROR_KINDS.items()]
    return Table(
        "Errors by kind", ("kind", "count", "meaning"), tuple(rows), f"At score {scores.conf:.3f}; {right} are right."
    )


def _threshold_table(scores: DetectionScores) -> Table:
    assert scores.check is not None
    check = scores.check
    rows = [
        columns(name, half.conf, half.f1, common, swapped)
        for name, half, common, swapped in zip(
            ("first half", "second half"), check.halves, check.common_f1, check.swapped_f1, strict=True
        )
    ]
    return Table(
        "Does the threshold generalise?",
        ("pictures", "own best threshold", "F1 there", "F1 at the common threshold", "F1 at the other half's"),
        tuple(rows),
        "The halves are every other validation picture. Numbers close to each other in a row mean that it does.",
    )


def _photos(truth: GroundTruth, found: dict[int, Detections], scores: DetectionScores) -> list[Picture]:
    texts = {
        "predictions": (
            "Validation pictures",
            f"Left the ground truth, right detections from score {scores.conf:.2f}.",
        ),
        "false": ("Surest false detections", "At most one a picture, the surest first; what is wrong stands below."),
        "missed": ("Largest missed objects", "At most one a picture, the largest first."),
    }
    sheets = draw_pictures(truth.images, found, truth.class_names, scores)
    return [photo(name, *texts[name], sheet) for name, sheet in sheets.items()]
