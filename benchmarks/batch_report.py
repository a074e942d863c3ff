"""The tables of bench_batch.py.

    python benchmarks/batch_report.py [benchmarks/results/batch.json]

prints those of a finished run as Markdown.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "batch.json"
IN_WORDS = {
    "decode": "decode alone",
    "infer": "infer alone",
    "loader": "DataLoader loop",
    "local": "`--engine local`",
    "ray": "`--engine ray`",
}
RATIOS = {
    "of_slowest_stage": "local / slowest stage alone (wanted: 0.95)",
    "shared_limit_of_slowest_stage": "the same of the limit that shared CPUs set",
    "of_shared_cpus": "local / limit of shared CPUs",
    "over_loader": "local / DataLoader loop",
    "over_loader_with_start": "the same with the start of both",
    "ray_over_local": "ray / local",
}


def markdown(record: dict[str, Any]) -> str:
    """Return the tables of a finished run."""
    machine = record["machine"]
    head = (
        f"{machine['cpu']}, {machine['cores']} CPUs, no GPU; load {machine['load']} before and {record['load_after']} "
        f"after; {record['count']} pictures ({record['pictures']}), {record['rounds']} rounds; commit "
        f"{record['commit']}. Median (smallest, largest)."
    )
    lines = [head, "", "| row | pictures/s | CPU-ms a picture | seconds with start |", "|---" * 4 + "|"]
    for row, found in record["rows"].items():
        cells = [_cell(found[key]) for key in ("per_s", "cpu_ms", "seconds")]
        lines.append(f"| {IN_WORDS[row]} | {' | '.join(cells)} |")
    lines += ["", "| ratio within a round | |", "|---|---|"]
    lines += [f"| {text} | {_cell(record['ratios'][key])} |" for key, text in RATIOS.items() if key in record["ratios"]]
    lines += [
        "",
        "| pictures of the job | ms a picture | CPU-ms a picture | PSS MB, second half | PSS MB, peak |",
        "|---" * 5 + "|",
    ]
    for each in record["growth"]:
        memory = each["pss_mb"]
        cells = [each["ms"], each["cpu_ms"], memory["second_half"], memory["peak"]]
        lines.append(f"| {each['pictures']:,} | {' | '.join(f'{cell:.4g}' for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(spread: list[float]) -> str:
    middle, least, most = (f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}" for value in spread)
    return f"{middle} ({least}, {most})"


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    sys.stdout.write(markdown(json.loads(path.read_text(encoding="utf-8"))))
