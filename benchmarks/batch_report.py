"""The tables of bench_batch.py.

    python benchmarks/batch_report.py [benchmarks/results/batch.json] [--docs]

prints those of a finished run as Markdown, and puts them into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "batch.json"
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
IN_WORDS = {
    "decode": "decode alone",
    "infer": "infer alone",
    "loader": "DataLoader loop",
    "local": "`--engine local`",
    "ray": "`--engine ray`",
    "plan": "planning: list, sort, divide, manifest",
}
RATIOS = {
    "of_slowest_stage": "local / slowest stage alone (wanted: 0.95)",
    "shared_limit_of_slowest_stage": "the same of the limit that shared CPUs set",
    "of_shared_cpus": "local / limit of shared CPUs",
    "over_loader": "local / DataLoader loop",
    "over_loader_with_start": "the same with the start of both",
    "ray_over_local": "ray / local",
    "ray_over_local_steady": "the same from first to last rows: Ray's actors load their networks within the run",
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
        cells = [_cell(found[key]) if key in found else "" for key in ("per_s", "cpu_ms", "seconds")]
        lines.append(f"| {IN_WORDS[row]} | {' | '.join(cells)} |")
    lines += ["", "| ratio within a round | |", "|---|---|"]
    lines += [f"| {text} | {_cell(record['ratios'][key])} |" for key, text in RATIOS.items() if key in record["ratios"]]
    lines += ["", "| a device that takes no CPU does | share of it that `--engine local` keeps busy |", "|---|---|"]
    lines += [f"| {rate} pictures/s | {_cell(share)} |" for rate, share in record["device"].items()]
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


def put_tables(page: Path, made: Mapping[str, str], *, maker: str) -> None:
    """Put tables into a page, between the marks that name them."""
    text = page.read_text(encoding="utf-8")
    for name, table in made.items():
        begin, end = f"<!-- {name}: made by benchmarks/{maker} -->", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise RuntimeError(f"{page} must have one {begin} and one {end}")
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n\n{table.rstrip()}\n\n{end}{rest.partition(end)[2]}"
    page.write_text(text, encoding="utf-8")


def main() -> int:
    """Print the tables of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--docs", action="store_true", help="put them into docs/benchmarks.md")
    options = parser.parse_args()
    text = markdown(json.loads(options.record.read_text(encoding="utf-8")))
    sys.stdout.write(text)
    if options.docs:
        put_tables(PAGE, {"batch": text}, maker="batch_report.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
