"""The report of a classifier: confusion or errors, a table of the classes, and the surest mistakes as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vision.card import ModelCard
from vision.classification.readout import Readout
from vision.errors import InvalidInputError
from vision.evaluation.classification import Scores, measure
from vision.evaluation.plots import confusion_figure
from vision.figures import Theme, new_figure
from vision.render import contact_sheet
from vision.report.content import Content, Picture, Table, columns, photo, plot, share
from vision.training.datasets.pictures import load_rgb
from vision.training.report.answers import ClassifierAnswers, load_outputs
from vision.types import FloatArray, ImageArray

MISTAKES = 12
TILE = 160


def classifier_content(out: Path, card: ModelCard) -> Content:
    """Return what the report of a classifier's run shows."""
    answers = load_outputs(out)
    if answers is None:
        return Content(notes=["The run folder has no outputs on the validation pictures; train again to have them."])
    readout = Readout.from_card(card.architecture, card.labels)
    scores = measure(answers.outputs, answers.targets, readout)
    if readout.task == "regression":
        return _regression(answers, readout, scores)
    content = Content(tiles=_tiles(scores), tables=[_class_table(answers, readout, scores)])
    matrix = scores.confusion
    if matrix is not None:
        content.plots.append(
            plot(
                "confusion",
                "Confusion",
                "A row is the true class, a column the predicted one.",
                lambda theme: confusion_figure(matrix, readout.class_names, theme, background=False),
            )
        )
    content.photos = _mistakes(answers, readout)
    return content


def _tiles(scores: Scores) -> list[tuple[str, str]]:
    names = {"accuracy": "accuracy", "top5": "top 5", "mAP": "mAP", "f1": "F1", "macro_f1": "macro F1"}
    return [(text, share(scores.metrics[name])) for name, text in names.items() if name in scores.metrics]


def _class_table(answers: ClassifierAnswers, readout: Readout, scores: Scores) -> Table:
    true = answers.targets > 0.5
    if readout.task == "multiclass":
        assigned = np.eye(len(readout.class_names), dtype=np.bool_)[answers.outputs.argmax(axis=1)]
        note = ""
    else:
        assigned = answers.outputs >= readout.threshold
        note = f"A label is assigned from probability {readout.threshold:.3f}."
    right = (true & assigned).sum(axis=0)
    rows = []
    for label, name in enumerate(readout.class_names):
        count, given = int(true[:, label].sum()), int(assigned[:, label].sum())
        precision = right[label] / given if given else -1.0
        recall = right[label] / count if count else -1.0
        f1 = 2 * right[label] / (given + count) if given + count else -1.0
        rows.append(columns(name, count, given, float(precision), float(recall), float(f1)))
    return Table("Classes", ("class", "pictures", "assigned", "precision", "recall", "F1"), tuple(rows), note)


def _mistakes(answers: ClassifierAnswers, readout: Readout) -> list[Picture]:
    """Return a sheet of the pictures whose wrong classes are the surest."""
    outputs, true = answers.outputs, answers.targets > 0.5
    wrong = np.where(true, -1.0, outputs)
    surest = wrong.argmax(axis=1)
    sureness = wrong[np.arange(len(wrong)), surest]
    if readout.task == "multiclass":
        sureness = np.where(outputs.argmax(axis=1) == surest, sureness, -1.0)
    else:
        sureness = np.where(sureness >= readout.threshold, sureness, -1.0)
    rows = [row for row in np.argsort(-sureness, kind="stable")[:MISTAKES].tolist() if sureness[row] >= 0]
    captions = []
    for row in rows:
        really = " ".join(readout.class_names[label] for label in np.flatnonzero(true[row]).tolist()) or "none"
        captions.append(f"{readout.class_names[surest[row]]} {sureness[row]:.2f}, is {really}")
    caption = "Pictures with the surest wrong class; below each what was said, how surely, and what is true."
    return _sheet("mistakes", "Surest mistakes", caption, [answers.paths[row] for row in rows], captions)


def _regression(answers: ClassifierAnswers, readout: Readout, scores: Scores) -> Content:
    """Return the report of values: predicted over true ones, and the pictures with the largest errors."""
    true, predicted = answers.targets[:, 0], answers.outputs[:, 0]
    unit = f" [{readout.unit}]" if readout.unit else ""
    errors = np.abs(predicted - true)
    rows = np.argsort(-errors, kind="stable")[:MISTAKES].tolist()
    captions = [f"{predicted[row]:.4g}, is {true[row]:.4g}" for row in rows]
    text = "Pictures with the largest errors: the predicted value, and the true one."
    return Content(
        tiles=[
            (f"MAE{unit}", f"{scores.metrics['mae']:.4g}"),
            (f"RMSE{unit}", f"{scores.metrics['rmse']:.4g}"),
            ("R²", f"{scores.metrics['r2']:.3f}"),
        ],
        plots=[
            plot(
                "values",
                "Predicted and true values",
                "Each point is a picture; on the line the prediction is right.",
                lambda theme: _values_figure(true, predicted, unit, theme),
            )
        ],
        photos=_sheet("mistakes", "Largest errors", text, [answers.paths[row] for row in rows], captions),
    )


def _values_figure(true: FloatArray, predicted: FloatArray, unit: str, theme: Theme) -> Any:
    figure, (axes,) = new_figure(theme, size_in=(5.0, 4.6))
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    axes.plot(ends, ends, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    axes.scatter(true, predicted, s=14, color=theme.colours[0], alpha=0.6, linewidths=0)
    axes.set(xlabel=f"true{unit}", ylabel=f"predicted{unit}", title="Predicted and true values")
    return figure


def _sheet(name: str, title: str, caption: str, paths: Sequence[Path], captions: Sequence[str]) -> list[Picture]:
    try:
        tiles = [_tile(load_rgb(path)) for path in paths]
    except InvalidInputError:
        return []
    if not tiles:
        return []
    return [photo(name, title, caption, contact_sheet(tiles, columns=6, tile_width=TILE + 40, captions=captions))]


def _tile(picture: ImageArray) -> ImageArray:
    """Return the picture fitted into a square; small ones, such as digits, are enlarged without blurring."""
    scale = TILE / max(picture.shape[:2])
    size_wh = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    resized = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    tile = np.full((TILE, TILE, 3), 24, np.uint8)
    top, left = (TILE - size_wh[1]) // 2, (TILE - size_wh[0]) // 2
    tile[top : top + size_wh[1], left : left + size_wh[0]] = resized
    return tile
