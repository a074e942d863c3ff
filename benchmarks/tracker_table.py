"""The tables of docs/benchmarks.md out of the results of bench_tracker.py and eval_peers.py.

    python benchmarks/tracker_table.py [--check]

Replaces what stands between the markers of the page. A peer in Python that is faster than one of our presets without
appearance is a loss, and so is a peer with a higher score: such figures are bold, and under a table of times the losses
are listed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tracker_rows import OURS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
SPEED = ROOT / "benchmarks" / "results" / "tracker.json"
SCORES = ROOT / "benchmarks" / "results" / "association_peers.json"
"""Results of the two scripts."""

PYTHON = "Python"


def cell(value: float | None, bold: bool = False) -> str:
    """Return a figure with three digits, or a dash."""
    if value is None:
        return "-"
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"**{text}**" if bold else text


def is_busy(report: dict[str, Any]) -> bool:
    """Return whether the machine had other work when the benchmark began."""
    machine = report["machine"]
    return bool(machine["load"][0] > machine["cores"] / 2)


def figure(row: dict[str, Any], size: str, metric: str) -> float | None:
    """Return the milliseconds of a row at ``size`` objects, None where it failed."""
    value = row["objects"].get(size, {}).get(metric)
    return None if value is None else float(value)


def speed_losses(rows: dict[str, Any], names: list[str], size: str, metric: str) -> dict[str, list[str]]:
    """Return, by peer in Python, which of our rows among ``names`` take longer than it."""
    losses = {}
    for peer in names:
        theirs = figure(rows[peer], size, metric)
        if peer.startswith(OURS) or rows[peer]["language"] != PYTHON or theirs is None:
            continue
        ours = {name: figure(rows[name], size, metric) for name in names if name.startswith(OURS)}
        losses[peer] = [name for name, ms in ours.items() if ms is not None and ms > theirs]
    return {peer: slower for peer, slower in losses.items() if slower}


def speed_table(report: dict[str, Any], appearance: bool) -> list[str]:
    """Return the lines of the table of rows with or without appearance."""
    rows, metric = report["rows"], "cpu_median_ms" if is_busy(report) else "median_ms"
    names = [name for name, row in rows.items() if row["appearance"] == appearance]
    sizes = list(next(iter(rows.values()))["objects"])
    lines = ["| tracker | code | " + " | ".join(sizes) + " |", "|---|---|" + "---|" * len(sizes)]
    losses = {size: speed_losses(rows, names, size, metric) for size in sizes}
    slower = {size: {name for ours in losses[size].values() for name in ours} for size in sizes}
    for name in names:
        row = rows[name]
        errors = [result["error"] for result in row["objects"].values() if "error" in result]
        version = "" if name.startswith(OURS) else f" {row['version']}"
        cells = [cell(figure(row, size, metric), name in slower[size]) for size in sizes]
        if len(errors) == len(sizes):
            cells = [f"did not run: {errors[0]}", *[""] * (len(sizes) - 1)]
        lines.append(f"| {name}{version} | {row['language']} | " + " | ".join(cells) + " |")
    told = [
        f"- {size} objects: {peer} is faster than {'; '.join(ours)}."
        for size in sizes
        for peer, ours in losses[size].items()
    ]
    return [
        *lines,
        "",
        *(["Bold: slower than a peer in Python.", "", *told] if told else ["No peer in Python is faster."]),
    ]


def score_table(report: dict[str, Any], group: str) -> list[str]:
    """Return the lines of the table of one group of sequences, best HOTA first."""
    rows = report["groups"][group]["rows"]
    columns = ("HOTA", "MOTA", "IDF1")
    scored = {name: row for name, row in rows.items() if "error" not in row}
    peers = [row["combined"] for name, row in scored.items() if not name.startswith(OURS)]
    best = {column: max((row[column] for row in peers), default=0.0) for column in columns}
    lines = ["| tracker | scores from | HOTA | MOTA | IDF1 | IDSW |", "|---|---|---|---|---|---|"]
    for name, row in sorted(scored.items(), key=lambda item: -item[1]["combined"]["HOTA"]):
        mine = name.startswith(OURS)
        figures = [row["combined"][column] for column in columns]
        low = [mine and value < best[column] for value, column in zip(figures, columns, strict=True)]
        cells = [f"**{value:.1f}**" if is_low else f"{value:.1f}" for value, is_low in zip(figures, low, strict=True)]
        lines.append(f"| {name} | {row['threshold']:g} | {' | '.join(cells)} | {row['combined']['IDSW']:.0f} |")
    lines += [f"| {name} | | did not run: {row['error']} | | | |" for name, row in rows.items() if "error" in row]
    return [*lines, "", "Bold: below the best peer of the column."]


def speed_section(report: dict[str, Any]) -> list[str]:
    """Return both tables of times with where they were measured."""
    machine, versions = report["machine"], report["versions"]
    return [
        f"{machine['processor']}, {machine['cores']} cores, one used; load {machine['load'][0]:.1f} before and "
        f"{machine['load'][1]:.1f} after; Python {versions['python']}, numpy {versions['numpy']}, commit "
        f"{report['commit']}. Median milliseconds of a frame"
        + (", of the processor's time, for the machine had other work." if is_busy(report) else "."),
        "",
        "With appearance:",
        "",
        *speed_table(report, appearance=True),
        "",
        "Motion only:",
        "",
        *speed_table(report, appearance=False),
    ]


def replaced(text: str, name: str, lines: list[str]) -> str:
    """Return ``text`` with ``lines`` between the markers of section ``name``."""
    begin, end = f"<!-- {name}: made by benchmarks/tracker_table.py -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    return "\n".join([before + begin, "", *lines, "", end + after])


def main() -> None:
    """Run the script from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is out of date")
    args = parser.parse_args()
    text = page = PAGE.read_text()
    report = json.loads(SPEED.read_text()) if SPEED.exists() else {}
    if "rows" in report:
        text = replaced(text, "speed", speed_section(report))
    if SCORES.exists():
        scores = json.loads(SCORES.read_text())
        for group in scores["groups"]:
            text = replaced(text, f"scores of {group}", score_table(scores, group))
    if args.check:
        raise SystemExit(text != page)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
