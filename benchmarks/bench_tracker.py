"""Association time of one frame at 10 to 500 objects: our presets beside other packages' trackers, on equal detections.

    python benchmarks/bench_tracker.py [--quick] [--only TEXT,...] [--objects 10,50] [--repeats 3] [--out FILE]

Scene: objects wander in a 1920 x 1080 frame whose area grows with their number above 200, 5 % of the detections are
missing, boxes and embeddings (128 wide, unit norm) carry noise. Galleries hold 100 embeddings and are full before
timing starts. Detection, embedding, and the making of each package's input objects are outside the timed region.
Every measurement is a process of its own on one core with one BLAS thread; repeats go round all rows, so that a change
of the machine's load meets every row. Writes median, quartiles, and the spread of the medians over repeats, with
versions, licences, machine and load; a row that cannot run is written with its error. `make bench-peers` installs all
peers and runs this; ``python benchmarks/tracker_table.py`` writes the table of docs/benchmarks.md.
"""

# ruff: noqa: E402 - the thread settings must precede numpy

from __future__ import annotations

import os

# Before numpy: BLAS reads them once, at import.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import gc
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tracker_peers import Peer
from tracker_rows import OURS, all_rows

from vision.types import Detections

WIDTH = 128
# A gallery of 100 is full after 100 detections of a track; 5 % of them are missing.
WARM_UP_APPEARANCE, WARM_UP_MOTION = 115, 40
TIMED, QUICK_TIMED, LEAST_TIMED = 100, 20, 5
OBJECTS = (10, 50, 200, 500)
RESULTS = Path(__file__).parent / "results" / "tracker.json"


def scene(objects: int, frames: int, seed: int = 0) -> Iterator[Detections]:
    """Yield the detections of each frame; objects bounce off the border, so their number stays."""
    rng = np.random.default_rng(seed)
    size = np.array([1920.0, 1080.0]) * max(1.0, objects / 200) ** 0.5
    height = rng.uniform(60, 200, objects)
    half = np.stack([height * 0.2, height * 0.5], axis=1)
    centre = rng.uniform(half, size - half)
    velocity = rng.normal(0, 2.5, (objects, 2))
    looks = rng.standard_normal((objects, WIDTH))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    for _ in range(frames):
        velocity += rng.normal(0, 0.15, velocity.shape)
        centre = centre + velocity
        velocity[(centre < half) | (centre > size - half)] *= -1
        centre = np.clip(centre, half, size - half)
        seen = rng.permutation(np.flatnonzero(rng.random(objects) > 0.05))
        boxes = np.concatenate([centre - half, centre + half], axis=1)[seen]
        boxes += rng.normal(0, 0.01, boxes.shape) * height[seen, None]
        embeddings = looks[seen] + rng.normal(0, 0.3 / WIDTH**0.5, (len(seen), WIDTH))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        yield Detections(
            boxes, rng.uniform(0.5, 1, len(seen)), np.zeros(len(seen), np.int64), embeddings.astype(np.float32)
        )


def measure(peer: Peer, objects: int, timed: int, budget_s: float, seed: int) -> dict[str, Any]:
    """Return median and quartiles of wall milliseconds and the median of CPU milliseconds, after the warm-up.

    On a busy machine the wall time counts the neighbours' turns too; the CPU time of this process does not. A row that
    would take longer than ``budget_s`` seconds is cut short, in the warm-up after half of it, and says so in ``cut``.
    """
    steps = peer.build(**peer.parameters)
    warm_up = WARM_UP_APPEARANCE if peer.appearance else WARM_UP_MOTION
    wall_ms: list[float] = []
    cpu_ms: list[float] = []
    names: set[Any] = set()
    warmed, begun = 0, time.perf_counter()
    # The collector runs at moments that depend on all that came before; like timeit, leave it out of the measurement.
    gc.disable()
    for detections in scene(objects, warm_up + timed, seed):
        given = steps.prepare(detections if peer.appearance else detections.with_embeddings(None))
        start, cpu_start = time.perf_counter(), time.process_time()
        raw = steps.update(given)
        cpu_end, end = time.process_time(), time.perf_counter()
        found, _ = steps.read(raw)
        if warmed < warm_up and end - begun < budget_s / 2:
            warmed += 1
            continue
        wall_ms.append(1000 * (end - start))
        cpu_ms.append(1000 * (cpu_end - cpu_start))
        names.update(found)
        if len(wall_ms) == timed or (end - begun > budget_s and len(wall_ms) >= LEAST_TIMED):
            break
    quartiles = [round(float(value), 4) for value in np.percentile(wall_ms, [25, 50, 75])]
    return {
        "q1_ms": quartiles[0],
        "median_ms": quartiles[1],
        "q3_ms": quartiles[2],
        "cpu_median_ms": round(statistics.median(cpu_ms), 4),
        "frames": len(wall_ms),
        "cut": warmed < warm_up or len(wall_ms) < timed,
        "tracks": len(found),
        "ids": len(names),
    }


def measure_apart(name: str, objects: int, args: argparse.Namespace, repeat: int) -> dict[str, Any]:
    """Return the measurement of one row by a process of its own, or its error."""
    timed = QUICK_TIMED if args.quick else TIMED
    command = [sys.executable, __file__, "--row", name, "--objects", str(objects), "--timed", str(timed)]
    command += ["--budget", str(args.budget), "--seed", str(repeat)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20 * args.budget + 60)
    except subprocess.TimeoutExpired:
        return {"error": f"one frame took longer than {20 * args.budget:.0f} s"}
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode or not last:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(last[0])
    return result


def combine(repeats: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the repeat with the middle median, and the lowest and highest median of all."""
    failed = [repeat for repeat in repeats if "error" in repeat]
    if failed:
        return failed[0]
    ordered = sorted(repeats, key=lambda repeat: repeat["median_ms"])
    medians = [repeat["median_ms"] for repeat in ordered]
    return {**ordered[len(ordered) // 2], "spread_ms": [medians[0], medians[-1]], "repeats": len(ordered)}


def run_row(args: argparse.Namespace) -> None:
    """Measure one row in this process and print it as JSON."""
    if hasattr(os, "sched_setaffinity"):
        # One core for everyone; the highest, for the lowest serves the interrupts.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    peer = all_rows()[args.row]
    print(json.dumps(measure(peer, int(args.objects), args.timed, args.budget, args.seed)))


def describe(peer: Peer) -> dict[str, Any]:
    """Return what the JSON says of a row beside its times."""
    try:
        version = importlib.metadata.version(peer.package)
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    return {
        "package": peer.package,
        "version": version,
        "licence": peer.licence,
        "language": peer.language,
        "appearance": peer.appearance,
        "parameters": {key: repr(value) for key, value in peer.parameters.items()},
        "note": peer.note,
    }


def environment(load_before: float) -> dict[str, Any]:
    """Return commit, machine, load and versions."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return {
        "commit": commit.stdout.strip(),
        "machine": {
            "processor": names[0] if names else platform.processor(),
            "cores": os.cpu_count(),
            "load": [load_before, os.getloadavg()[0]],
        },
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("numpy", "scipy")},
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TIMED} timed frames for {TIMED}, one repeat")
    parser.add_argument("--only", default="", help=f"rows whose name has one of these texts; {OURS} for ours")
    parser.add_argument("--objects", default=",".join(map(str, OBJECTS)), help="numbers of objects, joined by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of one measurement after which it is cut")
    parser.add_argument("--out", type=Path, default=RESULTS)
    for name, kind in (("--row", str), ("--timed", int), ("--seed", int)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        return run_row(args)
    load_before = os.getloadavg()[0]
    rows = {name: peer for name, peer in all_rows().items() if any(text in name for text in args.only.split(","))}
    sizes = [int(value) for value in args.objects.split(",")]
    found: dict[str, dict[int, list[dict[str, Any]]]] = {name: {size: [] for size in sizes} for name in rows}
    for repeat in range(1 if args.quick else args.repeats):
        for size in sizes:
            for name in rows:
                found[name][size].append(measure_apart(name, size, args, repeat))
                print(repeat, size, name, found[name][size][-1], flush=True)
    report = {
        "what": f"association ms per frame, gallery 100 full, {WIDTH}-dim embeddings, one core, one BLAS thread",
        "rows": {
            name: describe(peer) | {"objects": {str(size): combine(found[name][size]) for size in sizes}}
            for name, peer in rows.items()
        },
        **environment(load_before),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
