"""Association time of one frame at 10 to 500 objects, against deep-sort-realtime in the same process.

    python benchmarks/bench_tracker.py [--quick] [--out FILE]

Scene: objects wander in a 1920 x 1080 frame whose area grows with their number above 200, 5 % of the detections are
missing, boxes and embeddings (128 wide, unit norm) carry noise. Galleries hold 100 embeddings and are full before
timing starts. Detection and embedding are outside the timed region. One BLAS thread. Writes median and quartiles with
machine, versions, load and commit as JSON.
"""

# ruff: noqa: E402 - the thread settings must precede numpy

from __future__ import annotations

import os

# Before numpy: BLAS reads them once, at import.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vision.tracking.config import TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections

WIDTH, GALLERY = 128, 100
WARM_UP_FRAMES = 115
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


def ours() -> Callable[[Detections], int]:
    """Return a step of our tracker: detections in, number of tracks out."""
    tracker = Tracker(TrackerConfig(gallery_size=GALLERY))
    return lambda detections: len(tracker.update(detections))


def theirs() -> Callable[[Detections], int]:
    """Return the same step of deep-sort-realtime with embeddings given and the paper's parameters."""
    if "pkg_resources" not in sys.modules:
        # It only asks pkg_resources for the path of weights that we do not use, and setuptools >= 81 ships none.
        sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")
        sys.modules["pkg_resources"].resource_filename = lambda package, name: name  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deep_sort_realtime.deepsort_tracker import DeepSort
    tracker = DeepSort(max_age=30, n_init=3, nn_budget=GALLERY, max_cosine_distance=0.2, embedder=None)

    def step(detections: Detections) -> int:
        size = detections.boxes[:, 2:] - detections.boxes[:, :2]
        boxes = np.concatenate([detections.boxes[:, :2], size], axis=1).tolist()
        raw = [(box, float(score), 0) for box, score in zip(boxes, detections.scores, strict=True)]
        return len(tracker.update_tracks(raw, embeds=list(detections.embeddings)))

    return step


def measure(step: Callable[[Detections], int], objects: int, timed: int) -> dict[str, float]:
    """Return median and quartiles of wall milliseconds, and the median of CPU milliseconds, after the warm-up.

    On a busy machine the wall time counts the neighbours' turns too; the CPU time of this thread does not.
    """
    wall_ms, cpu_ms, tracks = [], [], 0
    for index, detections in enumerate(scene(objects, WARM_UP_FRAMES + timed)):
        start, cpu_start = time.perf_counter(), time.thread_time()
        tracks = step(detections)
        if index >= WARM_UP_FRAMES:
            wall_ms.append(1000 * (time.perf_counter() - start))
            cpu_ms.append(1000 * (time.thread_time() - cpu_start))
    low, median, high = (round(float(value), 3) for value in np.percentile(wall_ms, [25, 50, 75]))
    cpu = round(float(np.median(cpu_ms)), 3)
    return {"median_ms": median, "q1_ms": low, "q3_ms": high, "cpu_median_ms": cpu, "tracks": tracks}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="20 timed frames instead of 100, deep-sort-realtime up to 50"
    )
    parser.add_argument("--ours-only", action="store_true", help="leave deep-sort-realtime out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    timed = 20 if args.quick else 100
    load_before = os.getloadavg()[0]
    results: dict[str, dict[str, dict[str, float]]] = {}
    for objects in OBJECTS:
        row = {"stride32": measure(ours(), objects, timed)}
        if not args.ours_only and (objects <= 50 or not args.quick):
            row["deep-sort-realtime"] = measure(theirs(), objects, min(timed, 30))
        results[str(objects)] = row
        print(objects, row, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    packages = ["numpy", "scipy"] if args.ours_only else ["numpy", "scipy", "deep-sort-realtime"]
    report = {
        "what": "association ms per frame, gallery 100 full, 128-dim embeddings, one BLAS thread",
        "objects": results,
        "commit": commit.stdout.strip(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "load": [load_before, os.getloadavg()[0]]},
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


def _processor() -> str:
    """Return the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
