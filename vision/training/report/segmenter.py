"""The report of a segmenter: IoU of each class, confusion, answers beside the truth, and the worst pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.card import ModelCard
from vision.errors import InvalidInputError
from vision.evaluation.plots import confusion_figure
from vision.evaluation.segmentation import ClassScores, class_scores, total_scores
from vision.figures import Theme, new_figure, plain
from vision.render import contact_sheet
from vision.render_segmentation import blend_segmentation, write_legend
from vision.report.content import Content, Picture, Table, columns, photo, plot, share
from vision.segmentation.config import OTHER
from vision.training.datasets.pictures import load_rgb
from vision.training.report.segmenter_answers import SegmenterAnswers, load_segmentation
from vision.types import ImageArray, SegmentationMap

log = logging.getLogger(__name__)

SAMPLES, WORST, CONFUSIONS = 6, 4, 10
TILE = 320
# More bars are no longer read; the table of the classes has them all.
MOST_BARS = 60
WRONG_RGB = (255, 40, 40)


def segmenter_content(out: Path, card: ModelCard) -> Content:
    """Return what the report of a segmenter's run shows."""
    answers = load_segmentation(out)
    if answers is None:
        return Content(notes=["The run folder has no answers on pictures; stride32 report RUN --data DATA makes them."])
    classes = class_scores(answers.class_names, answers.confusion, answers.border_f1)
    totals = {name: _number(value) for name, value in total_scores(classes, answers.confusion).items()}
    content = Content(
        tiles=[
            ("mIoU", share(totals["mIoU"])),
            ("pixel accuracy", share(totals["accuracy"])),
            ("class accuracy", share(totals["class_accuracy"])),
            ("border F1", share(totals["border_f1"])),
        ],
        tables=[_class_table(answers, classes), *_confusion_table(answers)],
    )
    if len(answers.class_names) <= MOST_BARS:
        text = "Area that is found and true, over the area that is either; the line is their mean."
        mean = totals["mIoU"]
        content.plots.append(plot("iou", "IoU of the classes", text, lambda theme: _bars(classes, mean, theme)))
    content.plots.append(
        plot(
            "confusion",
            "Confusion",
            "Percent of the pixels of each true class (row) that were found as each class (column).",
            lambda theme: confusion_figure(
                answers.confusion, answers.class_names, theme, background=False, counts=False
            ),
        )
    )
    try:
        content.photos = _photos(answers)
    except InvalidInputError as exc:
        log.warning("no pictures are drawn: %s", exc)
        content.notes.append("The validation pictures could not be read, so none are shown.")
    return content


def _number(value: float) -> float:
    """Return a score as reports show it: -1 for what does not occur, which is NaN among the scores."""
    return -1.0 if math.isnan(value) else value


def _class_table(answers: SegmenterAnswers, classes: Sequence[ClassScores]) -> Table:
    total = max(1, int(answers.confusion.sum()))
    others = answers.confusion.copy()
    np.fill_diagonal(others, 0)
    rows = []
    for item, wrong in zip(classes, others, strict=True):
        worst = int(wrong.argmax())
        taken = f"{answers.class_names[worst]} {_percent(wrong[worst], item.pixels)}" if wrong[worst] else "-"
        numbers = map(_number, (item.iou, item.recall, item.precision, item.border_f1))
        rows.append(columns(item.name, f"{100 * item.pixels / total:.1f}", *numbers, taken))
    return Table(
        "Classes",
        ("class", "% of pixels", "IoU", "recall", "precision", "border F1", "most often taken for"),
        tuple(rows),
        "Recall is the share of the class's pixels that were found, precision the share of those found that are right.",
    )


def _confusion_table(answers: SegmenterAnswers) -> list[Table]:
    """Return a table of the pairs of classes that cost most pixels; none where all are right."""
    wrong = answers.confusion.copy()
    np.fill_diagonal(wrong, 0)
    total = int(wrong.sum())
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [(int(at) // len(wrong), int(at) % len(wrong)) for at in order if wrong.flat[at]]
    rows = [
        (answers.class_names[really], answers.class_names[found], f"{100 * wrong[really, found] / total:.1f}")
        for really, found in pairs
    ]
    if not rows:
        return []
    note = f"{_percent(total, answers.confusion.sum())} of the pixels are wrong."
    return [Table("What is confused most", ("really", "found as", "% of wrong pixels"), tuple(rows), note)]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _bars(classes: Sequence[ClassScores], mean: float, theme: Theme) -> Any:
    count = len(classes)
    figure, (axes,) = new_figure(theme, size_in=(6.4, max(2.4, min(14.0, 1.1 + 0.26 * count))))
    ious, rows = [_number(item.iou) for item in classes], range(count)
    axes.barh(rows, [max(iou, 0.0) for iou in ious], color=theme.colours[0], height=0.68)
    for row, iou in enumerate(ious):
        axes.text(max(iou, 0.0) + 0.01, row, share(iou), va="center", fontsize=8, color=theme.ink)
    axes.axvline(mean, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(rows, [plain(item.name) for item in classes])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(xlim=(0, 1.08), title="IoU of the classes")
    return figure


def _photos(answers: SegmenterAnswers) -> list[Picture]:
    count = len(answers.pictures)
    evenly = sorted({round(place) for place in np.linspace(0, count - 1, min(SAMPLES, count))})
    known = np.where(np.isnan(answers.accuracy), np.inf, answers.accuracy)
    worst = [row for row in np.argsort(known, kind="stable")[:WORST].tolist() if known[row] < 1]
    text = "Each row: the picture, the truth, what was found, and in red the wrong pixels."
    photos = [photo("samples", "Validation pictures", text, _sheet(answers, evenly))]
    if worst:
        text = "Those with the largest share of wrong pixels: look whether the masks are right."
        photos.append(photo("worst", "Worst pictures", text, _sheet(answers, worst)))
    return photos


def _sheet(answers: SegmenterAnswers, rows: Sequence[int]) -> ImageArray:
    tiles: list[ImageArray] = []
    captions: list[str] = []
    for row in rows:
        picture, truth, found = load_rgb(answers.pictures[row].image), answers.truth(row), answers.answer(row)
        if not picture.shape[:2] == truth.shape == found.shape:
            raise InvalidInputError(
                f"picture, truth and answer must have one size, got {picture.shape[:2]}, {truth.shape} and "
                f"{found.shape} for {answers.pictures[row].image}; stride32 report RUN --data DATA measures them again",
                path=answers.pictures[row].image,
            )
        wrong = (truth >= 0) & (truth != found)
        marked = picture // 2 + 64
        marked[wrong] = WRONG_RGB
        tiles += [picture, _painted(picture, truth, answers), _painted(picture, found, answers), marked]
        accuracy = float(answers.accuracy[row])
        right = "nothing known" if np.isnan(accuracy) else f"{100 * accuracy:.1f} % right"
        captions += [answers.pictures[row].image.name, "truth", "found", right]
    sheet = contact_sheet([_fitted(tile) for tile in tiles], columns=4, tile_width=TILE, captions=captions)
    return np.concatenate([sheet, _legend(sheet.shape[1], answers.class_names)])


def _painted(picture: ImageArray, labels: npt.NDArray[np.int16], answers: SegmenterAnswers) -> ImageArray:
    """Return the picture below the colours of its labels; unknown pixels stay as they are."""
    # 256 classes leave no uint8 for one more.
    known = np.where(labels < 0, len(answers.class_names), labels).astype(np.int64)
    return blend_segmentation(picture, SegmentationMap(known, (*answers.class_names, OTHER)), opacity=0.65)


def _fitted(picture: ImageArray) -> ImageArray:
    """Return the picture at the width of a tile; small ones are enlarged without blurring, for their pixels count."""
    height = max(1, round(picture.shape[0] * TILE / picture.shape[1]))
    method = cv2.INTER_AREA if picture.shape[1] > TILE else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, (TILE, height), interpolation=method), np.uint8)


def _legend(width: int, class_names: Sequence[str]) -> ImageArray:
    """Return a strip with the colours of the classes, empty where they are too many."""
    # A legend takes the lower quarter of a picture at most.
    canvas = np.zeros((480, width, 3), np.uint8)
    write_legend(canvas, class_names, class_names)
    drawn = np.flatnonzero(canvas.any(axis=(1, 2)))
    return canvas[max(0, drawn[0] - 8) :] if len(drawn) else canvas[:0]
