"""The end of a run: figures/ and report.html from what lies in the run folder, without training or running a model."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vision.card import CARD_FILE, ModelCard, read_card
from vision.errors import InvalidInputError
from vision.figures import Theme
from vision.io.writers.atomic import AtomicFile
from vision.report import page
from vision.report.content import Content, Picture, plot
from vision.training.report.document import CONFIG_FILE, FIGURES_FOLDER, REPORT_FILE, Run, report_body
from vision.training.report.history import History, history_figures, read_history

log = logging.getLogger(__name__)

CURVES = {
    "loss": ("Training loss", "Pale as measured, strong its moving average."),
    "training": ("Training batches", "Measured on the batches that were trained on, augmented as they are."),
    "learning-rate": ("Learning rate", "Of the groups of weights that differ."),
    "validation": ("Validation", "Measured with the weights that would be exported."),
    "validation-errors": ("Validation errors", "Less is better."),
}
ValueT = TypeVar("ValueT")


def report_run(out: Path) -> Path | None:
    """Write the report of a finished run and return its path; a failure is logged and costs the report alone."""
    try:
        return write_report(out)
    # The border of the run: the model is exported, and whatever is wrong with its report must not end in an error.
    except Exception as exc:
        log.warning("no report was written, the model is complete: %s", exc, exc_info=log.isEnabledFor(logging.DEBUG))
        return None


def write_report(out: Path) -> Path:
    """Write ``out/figures/*.png`` and ``out/report.html``, replacing older ones; returns the page's path.

    A part that cannot be made is named in the page and in the log; the others are shown.

    Raises:
        InvalidInputError: ``out`` is no run folder, or cannot be written to.
    """
    if not (out / CONFIG_FILE).is_file():
        raise InvalidInputError(
            f"{out} must be the folder of a training run, it has no {CONFIG_FILE}; give what --out named", path=out
        )
    settings = tomllib.loads((out / CONFIG_FILE).read_text(encoding="utf-8"))
    notes: list[str] = []
    card = _guarded("the model card", lambda: _find_card(out, settings), None, notes)
    history = _guarded("the curves", lambda: read_history(out), History(), notes)
    no_curves: list[Picture] = []
    curves = _guarded("the curves", lambda: _curves(history), no_curves, notes)
    content = _guarded("the evaluation", lambda: _content(out, card), Content(), notes)
    _save_pictures(out / FIGURES_FOLDER, [*curves, *content.plots, *content.photos])
    run = Run(out, settings, card, history)
    body = report_body(run, curves, content, notes)
    output = AtomicFile(out / REPORT_FILE, overwrite=True)
    output.write(page.html_page(f"{run.name}: training report", body).encode("utf-8"))
    output.commit()
    return out / REPORT_FILE


def _guarded(what: str, make: Callable[[], ValueT], otherwise: ValueT, notes: list[str]) -> ValueT:
    """Return what ``make`` makes; when it fails, the reason goes into the log and the page."""
    try:
        return make()
    except Exception as exc:
        log.warning("the report lacks %s: %s", what, exc, exc_info=log.isEnabledFor(logging.DEBUG))
        notes.append(f"This report lacks {what}: {exc}")
        return otherwise


def _find_card(out: Path, settings: Mapping[str, Any]) -> ModelCard | None:
    """Return the card of the exported model, None before the export."""
    folder = out / str(settings.get("name", ""))
    return read_card(folder) if (folder / CARD_FILE).is_file() else None


def _curves(history: History) -> list[Picture]:
    def draw(name: str) -> Callable[[Theme], Any]:
        return lambda theme: history_figures(history, theme)[name]

    return [plot(name, *CURVES[name], draw(name)) for name in history_figures(history)]


def _content(out: Path, card: ModelCard | None) -> Content:
    """Return what the model's kind adds."""
    if card is None:
        return Content(notes=["The run has exported no model yet."])
    if card.kind == "detector":
        from vision.training.report.detector import detector_content

        return detector_content(out, card)
    if card.kind in ("embedder", "roi-embedder"):
        from vision.training.report.embedder import embedder_content

        return embedder_content(out, card)
    if card.kind == "classifier":
        from vision.training.report.classifier import classifier_content

        return classifier_content(out, card)
    if card.kind == "segmenter":
        from vision.training.report.segmenter import segmenter_content

        return segmenter_content(out, card)
    return Content(notes=[f"Models of kind {card.kind} have no evaluation pages yet."])


def _save_pictures(folder: Path, pictures: list[Picture]) -> None:
    for picture in pictures:
        output = AtomicFile(folder / f"{picture.name}.png", overwrite=True)
        output.write(picture.png)
        output.commit()
