"""Batch jobs beside their own stages alone, and beside a plain DataLoader loop; cost and memory as a job grows.

    python benchmarks/bench_batch.py [--rounds 5] [--pictures DIR] [--count 500] [--quick] [--out FILE]

Rows (batch_rows.py, each in a process of its own, in turns, round after round): decode and infer alone, a DataLoader
loop, the local engine, the Ray engine where ray is installed, and the planning of a job. Figures are medians over the
rounds with the smallest and largest; ratios are made within a round, so that a slower hour of the machine changes both
sides:

    local / slowest stage     what the issue asks for: >= 0.95 of the slower of decode and infer alone
    local / shared CPUs       without a GPU both stages want the same CPUs: no order of work can do more pictures a
                              second than cpus / (CPU-seconds to decode one + CPU-seconds to infer one), measured alone
    local / loader            the loop of thirty lines
    ray / local

In each round the local engine works with pretended devices as well (batch_device.py), which take time and no CPU, as a
GPU does: there the slowest stage alone is the device, and the share of it that a run keeps busy is the ratio.

Then the growth (batch_growth.py): jobs of 500 to 10,000 pictures of a cheap task, for which processor time of a picture
and memory must stay the same. Writes benchmarks/results/batch.json, of which ``batch_report.py`` makes tables.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from batch_device import measure_devices, write_device_pictures
from batch_growth import measure_growth
from batch_pictures import IN_WORDS, write_pictures
from batch_report import RESULTS, markdown
from service_processes import python

from vision.bench.machine import describe_machine

HERE = Path(__file__).parent
# What is divided by each other is measured one after the other.
ROWS = ("decode", "infer", "local", "loader", "ray", "plan")
PACKAGES = ("pyarrow", "ray")
GROWTH = (500, 1000, 2000, 5000, 10_000)
# What the issue asks of this benchmark.
TARGETS = {"of_slowest_stage": 0.95}

Figures = dict[str, Any]


def measure(row: str, pictures: Path, count: int) -> Figures:
    """Return the figures of one row."""
    command = [python(), str(HERE / "batch_rows.py"), row, "--pictures", str(pictures), "--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode:
        raise RuntimeError(f"{row} failed:\n{done.stderr[-3000:]}")
    found: Figures = json.loads(done.stdout)
    cpu = f"cpu {found['cpu_ms']:8.2f} ms" if "cpu_ms" in found else ""
    print(f"{row:8} {found['per_s']:8.2f}/s  {found['seconds']:7.1f} s with start  {cpu}", flush=True)
    return found


def ratios(found: dict[str, Figures], cpus: int) -> dict[str, float]:
    """Return what the rows of one round say about each other."""
    speed = {row: each["per_s"] for row, each in found.items()}
    shared = 1000 * cpus / (found["decode"]["cpu_ms"] + found["infer"]["cpu_ms"])
    slowest = min(speed["decode"], speed["infer"])
    made = {
        "shared_limit_per_s": shared,
        "of_slowest_stage": speed["local"] / slowest,
        "shared_limit_of_slowest_stage": shared / slowest,
        "of_shared_cpus": speed["local"] / shared,
        "over_loader": speed["local"] / speed["loader"],
        "over_loader_with_start": found["loader"]["seconds"] / found["local"]["seconds"],
    }
    if "ray" in speed:
        steady = {row: found[row]["steady_per_s"] for row in ("local", "ray")}
        made |= {
            "ray_over_local": speed["ray"] / speed["local"],
            "ray_over_local_steady": steady["ray"] / steady["local"],
        }
    return made


def spread(values: list[Any]) -> Any:
    """Return median, smallest and largest of numbers, or the same of each number of nested figures."""
    if isinstance(values[0], dict):
        return {key: spread([value[key] for value in values]) for key in values[0]}
    return [round(value, 4) for value in (median(values), min(values), max(values))]


def main() -> int:
    """Measure everything and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=500, help="pictures of a row")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="pictures to take; without it they are made")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help="rows to measure; prints only")
    parser.add_argument("--quick", action="store_true", help="one short round, prints only: to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    growth: tuple[int, ...] = GROWTH
    if options.quick:
        options.rounds, options.count, growth = 1, 60, (200, 400)
    before = describe_machine()
    rows = [row for row in options.only or ROWS if row != "ray" or importlib.util.find_spec("ray")]
    rounds: list[dict[str, Figures]] = []
    devices: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="stride32-bench-") as folder:
        pictures = options.pictures or Path(folder, "pictures")
        if options.pictures is None:
            write_pictures(pictures, options.count)
        device_pictures = None if options.only else write_device_pictures(Path(folder))
        count = min(options.count, sum(1 for _ in pictures.iterdir()))
        for number in range(options.rounds):
            print(f"-- round {number + 1} of {options.rounds}", flush=True)
            rounds.append({row: measure(row, pictures, count) for row in rows})
            if device_pictures is not None:
                devices.append(measure_devices(device_pictures))
        if options.only is not None:
            return 0
        grown = measure_growth(Path(folder), growth)
    made = [ratios(found, before["cores"]) for found in rounds]
    record = {
        "commit": commit(),
        "machine": before,
        "load_after": describe_machine()["load"],
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES if package_is_there(package)},
        "pictures": str(options.pictures.name) if options.pictures else IN_WORDS,
        "count": count,
        "rounds": options.rounds,
        "figures": "median, smallest, largest over the rounds",
        "targets": TARGETS,
        "rows": {row: spread([found[row] for found in rounds]) for row in rows},
        "ratios": spread(made),
        "device": spread(devices),
        "growth": grown,
    }
    print(markdown(record))
    if not options.quick:
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def package_is_there(package: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def commit() -> str:
    """Return the version of this checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.fspath(HERE)).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
