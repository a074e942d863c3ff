"""The figures of bench_service.py: medians and ratios over the rounds, the targets, and the tables.

    python benchmarks/service_report.py [benchmarks/results/service.json]

prints the table of a finished run as Markdown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results" / "service.json"
CONCURRENCIES = (1, 8, 32)
NULL, NULL_BARE, DETECTOR = "null", "null, no decoding", "detector"
LIT_BATCH, LIT_WORKERS = "LitServe, batch 8", "LitServe, workers"
# What the issue asks of this benchmark.
TARGETS = {"overhead_cpu_ms": 0.35, "of_limit": 0.9, "p50_over_bare": 1.15}

Figures = dict[str, Any]


class Rounds:
    """The measurements of all rounds: row, concurrency -> the figures of each round."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, int], list[Figures]] = {}

    def add(self, row: str, concurrency: int, found: Figures) -> None:
        """Keep one measurement, and say it."""
        self.figures.setdefault((row, concurrency), []).append(found)
        print(
            f"{row:20} {concurrency:3} {found['per_s']:9.1f}/s  p50 {found['p50_ms']:8.2f} ms  "
            f"cpu {found['cpu_ms']:7.3f} ms",
            flush=True,
        )

    def spread(self, row: str, concurrency: int, key: str) -> list[float]:
        """Return median, smallest and largest of one figure."""
        return spread_of([found[key] for found in self.figures[row, concurrency]])

    def paired(self, rows: tuple[tuple[str, int], tuple[str, int]], key: str, combine: Callable[..., float]) -> Any:
        """Return the spread of what two rows of the same round give together."""
        one, other = (self.figures[row] for row in rows)
        return spread_of([combine(a[key], b[key]) for a, b in zip(one, other, strict=True)])


def spread_of(values: list[float]) -> list[float]:
    """Return median, smallest and largest."""
    return [round(value, 4) for value in (median(values), min(values), max(values))]


def summarise(rounds: Rounds) -> Figures:
    """Return all rows, and what they say about the targets."""
    rows: dict[str, Any] = {}
    for (row, concurrency), found in rounds.figures.items():
        keys = [key for key in found[0] if key not in ("requests", "failures")]
        rows.setdefault(row, {})[str(concurrency)] = {key: rounds.spread(row, concurrency, key) for key in keys}
    ratios: dict[str, Any] = {}
    for row in (DETECTOR, LIT_BATCH, LIT_WORKERS):
        for limit in ("sequence", "overlapped"):
            ratios[f"{row} / bare, {limit}"] = {
                str(many): rounds.paired(((row, many), (f"bare, {limit}", many)), "per_s", lambda a, b: a / b)
                for many in CONCURRENCIES
            }
    p50 = {
        row: rounds.paired(((row, 1), ("bare, sequence", 1)), "p50_ms", lambda a, b: a / b)
        for row in (DETECTOR, LIT_BATCH, LIT_WORKERS)
    }
    overhead = {
        str(many): {
            NULL: rounds.paired(((NULL, many), ("decode", 1)), "cpu_ms", lambda a, b: a - b),
            NULL_BARE: rounds.spread(NULL_BARE, many, "cpu_ms"),
        }
        for many in CONCURRENCIES
    }
    return {"rows": rows, "of_limit": ratios, "p50_over_bare": p50, "overhead_cpu_ms": overhead}


def print_table(summary: Figures, memory: Mapping[str, Mapping[str, float]]) -> None:
    """Print what was found, and whether it is what was wanted."""
    print(f"\n{'row':22}{'conc.':>6}{'req/s':>9}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'CPU ms':>9}{'RSS MB':>9}")
    for row, many in summary["rows"].items():
        for concurrency, found in many.items():
            cells = [found[key][0] for key in ("per_s", "p50_ms", "p95_ms", "p99_ms", "cpu_ms")]
            text = "".join(f"{cell:9.2f}" for cell in cells)
            print(f"{row:22}{concurrency:>6}{text}{memory.get(row, {}).get('rss', 0):9.0f}")
    for name, value, wanted in verdicts(summary):
        print(f"{name:58} {value:7.3f}   wanted {wanted}")


def verdicts(summary: Figures) -> Iterator[tuple[str, float, str]]:
    """Yield each figure that has a target."""
    for many in map(str, CONCURRENCIES):
        for row, values in summary["overhead_cpu_ms"][many].items():
            yield f"CPU-ms over decoding, {row}, {many} at once", values[0], f"<= {TARGETS['overhead_cpu_ms']}"
    for row, values in summary["of_limit"].items():
        for many in ("8", "32"):
            yield f"requests/s of {row}, {many} at once", values[many][0], f">= {TARGETS['of_limit']}"
    for row, values in summary["p50_over_bare"].items():
        yield f"p50 alone of {row} / bare call", values[0], f"<= {TARGETS['p50_over_bare']}"


def markdown(record: Figures) -> str:
    """Return the table of a finished run, and its verdicts, as Markdown."""
    lines = [
        "| row | at once | requests/s | p50 ms | p95 ms | p99 ms | CPU-ms a request | resident MB |",
        "|---" * 8 + "|",
    ]
    for row, many in record["rows"].items():
        memory = record["memory_mb"].get(row, {}).get("rss")
        for concurrency, found in many.items():
            cells = [f"{found[key][0]:.1f}" for key in ("per_s", "p50_ms", "p95_ms", "p99_ms")]
            cells += [f"{found['cpu_ms'][0]:.2f}", "" if memory is None else f"{memory:.0f}"]
            lines.append(f"| {row} | {concurrency} | {' | '.join(cells)} |")
    lines += ["", "| figure | median | wanted |", "|---|---|---|"]
    lines += [f"| {name} | {value:.3f} | {wanted} |" for name, value, wanted in verdicts(record)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    sys.stdout.write(markdown(json.loads(path.read_text(encoding="utf-8"))))
