"""The rows of a benchmark: measured one by one, written as CSV and JSON, stored in model cards."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from vision.bench.latency import Latency, measure_latency
from vision.bench.subjects import Subject
from vision.card import ModelCard
from vision.runtime.config import EngineName, RuntimeConfig

# What models of a kind are compared by, best known first: a classifier's depends on its task.
HEADLINES = {
    "detector": ("ap",),
    "embedder": ("rank1",),
    "classifier": ("accuracy", "mAP", "r2"),
    "segmenter": ("mIoU",),
}
# What the table shows beside it.
MORE_METRICS = {"detector": ("ap50",), "embedder": ("mAP",), "segmenter": ("accuracy",)}
IN_WORDS = {
    "ap": "AP",
    "ap50": "AP50",
    "rank1": "rank-1",
    "mAP": "mAP",
    "accuracy": "accuracy",
    "r2": "R2",
    "mIoU": "mIoU",
}
# Rows that these agree in are measurements of the same thing: a new one replaces the old one in a card.
IDENTITY = ("size", "engine", "threads", "processor")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRow:
    """One model at one size in one engine.

    Attributes:
        name, kind, size, parameters, file_bytes: see ``Subject``.
        engine: "onnx:cpu", "torch:cpu" or "torch:cuda".
        threads: CPU threads of the engine; 0 on a GPU.
        latency: of the whole call for one picture.
        metrics: accuracy by name, in [0, 1]; empty when unknown.
        source: where the metrics come from: the data measured, or "card"; empty without metrics.
    """

    name: str
    kind: str
    size: str
    engine: str
    threads: int
    parameters: int
    file_bytes: int | None
    latency: Latency
    metrics: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    @property
    def headline(self) -> str:
        """Name of the metric that the model is chosen by; empty when none is known."""
        return next((name for name in HEADLINES.get(self.kind, ()) if name in self.metrics), "")

    @property
    def accuracy(self) -> float | None:
        """Its value; None when it is not known."""
        return self.metrics.get(self.headline)

    def flat(self) -> dict[str, Any]:
        """Return one level of plain data: the latency's and the metrics' fields beside the others."""
        row = asdict(self)
        latency, metrics, source = row.pop("latency"), row.pop("metrics"), row.pop("source")
        times = {"latency_ms": latency.pop("median_ms")} | {
            f"latency_{key}" if key != "repeats" else key: value for key, value in latency.items()
        }
        return {**row, **times, **metrics, "source": source}


def measure_rows(
    subjects: Iterable[Subject],
    engines: Sequence[EngineName],
    *,
    threads: int,
    repeats: int,
    metrics_of: Callable[[Subject], tuple[Mapping[str, float], str]],
    report: Callable[[str], None] = lambda line: None,
) -> list[BenchRow]:
    """Return a row for each subject and engine, and for torch on CUDA where there is a device.

    Args:
        subjects: in the order of the rows.
        engines: of the CPU, "onnx" or "torch".
        threads: CPU threads of an engine, >= 1.
        repeats: calls for each row, after the warm-up.
        metrics_of: returns what is known of a subject's accuracy, and from where; called once a subject.
        report: is told what is being measured.
    """
    runtimes = [RuntimeConfig(device="cpu", engine=engine, threads=threads) for engine in engines]
    if torch.cuda.is_available():
        runtimes.append(RuntimeConfig(device="cuda", engine="torch", threads=threads))
    rows = []
    for subject in subjects:
        metrics, source = metrics_of(subject)
        for runtime in runtimes:
            engine = f"{runtime.engine}:{runtime.device}"
            report(f"measuring {subject.name} {subject.size} in {engine}")
            rows.append(
                BenchRow(
                    name=subject.name,
                    kind=subject.kind,
                    size=subject.size,
                    engine=engine,
                    threads=threads if runtime.device == "cpu" else 0,
                    parameters=subject.parameters,
                    file_bytes=subject.file_bytes,
                    latency=measure_latency(subject.start(runtime), repeats=repeats),
                    metrics=dict(metrics),
                    source=source,
                )
            )
    return rows


def compared_metrics(kind: str) -> tuple[str, ...]:
    """Return the names of the metrics that models of a kind are shown with."""
    return (*HEADLINES.get(kind, ()), *MORE_METRICS.get(kind, ()))


def to_csv(rows: Sequence[BenchRow]) -> str:
    """Return the rows as CSV text with a header; a metric that a row lacks is empty."""
    flat = [row.flat() for row in rows]
    fields = dict.fromkeys(key for row in flat for key in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def table_cells(row: BenchRow) -> dict[str, str]:
    """Return the row as texts by column, for people."""
    shown = [f"{IN_WORDS[name]} {row.metrics[name]:.3f}" for name in compared_metrics(row.kind) if name in row.metrics]
    return {
        "model": row.name,
        "kind": row.kind,
        "size": row.size,
        "engine": row.engine,
        "ms": f"{row.latency.median_ms:.1f}",
        "quartiles": f"{row.latency.low_ms:.1f}-{row.latency.high_ms:.1f}",
        "fastest": f"{row.latency.fastest_ms:.1f}",
        "cpu ms": f"{row.latency.cpu_ms:.1f}",
        "parameters": f"{row.parameters / 1e6:.2f} M",
        "file": "" if row.file_bytes is None else f"{row.file_bytes / 1e6:.1f} MB",
        "accuracy": ", ".join(shown),
        "from": row.source,
    }


def to_document(rows: Sequence[BenchRow], machine: Mapping[str, Any], picture: str) -> dict[str, Any]:
    """Return the rows with all that their times depend on, as JSON data."""
    return {"machine": dict(machine), "picture": picture, "rows": [row.flat() for row in rows]}


def card_rows(
    card: ModelCard, rows: Sequence[BenchRow], machine: Mapping[str, Any], picture: str
) -> tuple[Mapping[str, Any], ...]:
    """Return the card's measurements with ``rows`` added; an older one of the same thing is replaced.

    Accuracy goes along only where it was measured now: what came from the card stands there already.
    """
    new = [
        {
            "size": row.size,
            "engine": row.engine,
            "threads": row.threads,
            "processor": _processor(row, machine),
            "latency_ms": row.latency.median_ms,
            "quartiles_ms": [row.latency.low_ms, row.latency.high_ms],
            "fastest_ms": row.latency.fastest_ms,
            "cpu_ms": row.latency.cpu_ms,
            "repeats": row.latency.repeats,
            "picture": picture,
            "load": machine["load"],
            "versions": ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
            **({**row.metrics, "dataset": row.source} if row.source not in ("", "card") else {}),
        }
        for row in rows
    ]
    replaced = {_identity(item) for item in new}
    return (*(item for item in card.latency if _identity(item) not in replaced), *new)


def _processor(row: BenchRow, machine: Mapping[str, Any]) -> str:
    return str(machine["cpu"] if row.engine.endswith(":cpu") else machine["gpus"][0])


def _identity(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(item.get(key) for key in IDENTITY)
