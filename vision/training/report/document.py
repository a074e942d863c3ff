"""The sections of a report: what a run is, what it scored, how it went, with what settings, and where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision.card import ModelCard
from vision.report import page
from vision.report.content import Content, Picture, Table
from vision.training.report.environment import ENVIRONMENT_FILE, read_starts
from vision.training.report.history import History
from vision.training.report.meanings import meaning

REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
CONFIG_FILE = "config.toml"
METRICS_FILE = "metrics.json"
# Metrics of one class each stand in a table of the classes.
PER_CLASS = ("f1/", "iou/")
FILES = {
    REPORT_FILE: "this page",
    FIGURES_FOLDER: "its plots and pictures",
    CONFIG_FILE: "the effective settings",
    ENVIRONMENT_FILE: "versions and machine of each start",
    METRICS_FILE: "metrics of the exported model",
    "metrics": "losses and validation metrics by step, CSV",
    "tensorboard": "the same for TensorBoard: tensorboard --logdir",
    "validation": "what the exported model answered on the validation data",
    "best.ckpt": "the best validation",
    "last.ckpt": "the state to resume from",
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder as the report needs it: the folder, config.toml, the exported model's card, the curves."""

    out: Path
    settings: Mapping[str, Any]
    card: ModelCard | None
    history: History

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name if self.card else str(self.settings.get("name", self.out.name))


def report_body(run: Run, curves: list[Picture], content: Content, notes: list[str]) -> list[str]:
    """Return the sections of the page as HTML; ``notes`` say what could not be made."""
    starts, card = read_starts(run.out), run.card
    kind = f"Stride32 {card.kind}, training report" if card else "Stride32 training report"
    return [
        page.html_header(run.name, kind, card.summary if card else "", content.tiles),
        *(page.html_text(note, "warning") for note in [*notes, *content.notes]),
        page.html_section("Model and data", page.html_facts(_facts(card, run.history))),
        page.html_section("Metrics", _metrics(run.out, card)),
        page.html_section("Training", page.html_plots(curves)),
        page.html_section("Evaluation", page.html_plots(content.plots), *(page.html_table(t) for t in content.tables)),
        page.html_section("Pictures", page.html_photos(content.photos)),
        page.html_section("Settings", *_settings(run.settings, starts, card)),
        page.html_section("Environment", *_environment(starts)),
        page.html_section("Files", page.html_facts(_files(run.out, card))),
    ]


def _facts(card: ModelCard | None, history: History) -> list[tuple[str, str]]:
    trained = f"{history.last_epoch} epochs" if history.last_epoch else ""
    if history.resumed:
        trained += f", resumed {len(history.resumed)} times" if len(history.resumed) > 1 else ", resumed once"
    if card is None:
        return [("trained", trained)]
    size = card.weights_path.stat().st_size / 1e6 if card.weights_path.is_file() else 0.0
    return [
        ("classes", ", ".join(card.labels)),
        ("architecture", _words(card.architecture)),
        ("input", _words(card.preprocess)),
        ("weights", f"{size:.1f} MB, sha256 {card.sha256[:16]}..." if size else ""),
        *(("data", f"{row.get('name', '')}; {row.get('terms', '')}") for row in card.data),
        ("trained", trained),
        ("licence", card.licence),
    ]


def _metrics(out: Path, card: ModelCard | None) -> str:
    """Return the table of all metrics with what each means, and what they were measured on."""
    path = out / METRICS_FILE
    if not path.is_file():
        return ""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    kind = card.kind if card else ""
    rows = tuple(
        (name, _metric(name, value), meaning(name, kind))
        for name, value in metrics.items()
        if not name.startswith(PER_CLASS)
    )
    measured = dict.fromkeys(f"{row.get('dataset', '')}." for row in card.metrics) if card else {}
    commands = dict.fromkeys(str(row.get("command", "")) for row in card.metrics) if card else {}
    note = "Of the exported model, on " + " ".join(measured) if measured else ""
    return page.html_table(Table("", ("metric", "value", "meaning"), rows, note)) + page.html_code("\n".join(commands))


def _metric(name: str, value: float) -> str:
    if name in ("queries", "pictures"):
        return f"{value:.0f}"
    return "-" if value == -1 else f"{value:.4f}"


def _settings(settings: Mapping[str, Any], starts: list[dict[str, Any]], card: ModelCard | None) -> list[str]:
    command = str(card.training.get("command", "")) if card else ""
    changed = starts[-1].get("changed") if starts else None
    shown = changed if isinstance(changed, dict) else settings
    title = "Settings that differ from the defaults" if shown is changed else "All settings"
    rows = tuple((str(name), _value(value)) for name, value in shown.items())
    return [
        page.html_text("To train such a model again (capitals stand for your files):") if command else "",
        page.html_code(command),
        page.html_table(Table(title, ("setting", "value"), rows)),
    ]


def _environment(starts: list[dict[str, Any]]) -> list[str]:
    """Return a table of what each start ran on; equal starts are shown once."""
    tables: dict[str, list[str]] = {}
    for entry in starts:
        facts = page.html_facts(_environment_facts(entry))
        tables.setdefault(facts, []).append(str(entry.get("time", "")))
    parts = []
    for facts, times in tables.items():
        parts += [page.html_text("Started " + ", ".join(times), "note"), facts]
    return parts


def _environment_facts(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = entry.get("git")
    revision = ""
    if isinstance(git, dict):
        revision = str(git.get("revision", "")) + (" with uncommitted changes" if git.get("dirty") else "")
    machine = entry.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    packages = entry.get("packages")
    return [
        ("stride32", str(entry.get("stride32", ""))),
        ("git revision", revision),
        ("python", str(entry.get("python", ""))),
        ("packages", _words(packages) if isinstance(packages, dict) else ""),
        ("system", str(machine.get("system", ""))),
        ("processor", f"{machine.get('cpu', '')}, {machine.get('cores', '?')} cores" if machine else ""),
        ("GPUs", ", ".join(map(str, machine.get("gpus") or [])) or ("none" if machine else "")),
    ]


def _files(out: Path, card: ModelCard | None) -> list[tuple[str, str]]:
    present = [(name, text) for name, text in FILES.items() if name == REPORT_FILE or (out / name).exists()]
    return [*present, *([(f"{card.name}/", "the exported model: card and weights")] if card else [])]


def _words(table: Mapping[str, Any]) -> str:
    """Return a table as one line of names and values."""
    return ", ".join(f"{name} {_value(value)}" for name, value in table.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return f"({_words(value)})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and Path(value).is_absolute():
        return "/".join(part for part in Path(value).parts[-2:] if part != "/")
    return str(value)
