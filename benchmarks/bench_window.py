"""The sliding window beside the anchor detector: AP and time on coco-person, and what the single run saves.

    python benchmarks/bench_window.py [--data FOLDER/coco-person/val.json] [--limit N] [--out FILE]

AP is measured as `stride32 eval detector` does. The time is that of the whole detect call on one picture, the median
over the pictures, at the score floor of each model's card; the CPU time is that of all threads together and suffers
less from other work. Literal crops, which classify every window by itself, are timed on one picture; they give the
same detections. Skips when the data is absent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vision.build import build_detector
from vision.detection.config import DetectorConfig
from vision.detection.detector import Detector
from vision.detection.window import LiteralCrops, WindowDetector
from vision.evaluation.detection import evaluate_detector
from vision.runtime.config import RuntimeConfig
from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.pictures import load_rgb
from vision.types import Frame

RESULTS = Path(__file__).parent / "results" / "window.json"
DATA = Path(os.environ.get("STRIDE32_DATA", Path(__file__).parents[2] / "shared" / "data"))
CROP_PICTURES = 1
SETTINGS: dict[str, dict[str, Any]] = {
    "person-window": {"model": "person-window"},
    "person-window, first level 960": {"model": "person-window", "long_side": 960},
    "person-window, first level 416": {"model": "person-window", "long_side": 416},
    "person-lite0": {"model": "person-lite0"},
}


def measure_times(detector: Detector, frames: Sequence[Frame]) -> dict[str, float]:
    """Return the median wall and CPU milliseconds of a frame's call, after a call that warms up."""
    detector.detect(frames[:1])
    wall, cpu = [], []
    for frame in frames:
        start, start_cpu = time.perf_counter(), time.process_time()
        detector.detect([frame])
        wall.append(1000 * (time.perf_counter() - start))
        cpu.append(1000 * (time.process_time() - start_cpu))
    return {"median_ms": statistics.median(wall), "median_cpu_ms": statistics.median(cpu), "pictures": len(frames)}


def window_by_window(detector: WindowDetector) -> WindowDetector:
    """Return the same detector on literal crops."""
    return WindowDetector(
        LiteralCrops(detector.engine, detector.geometry),
        geometry=detector.geometry,
        class_names=detector.class_names,
        normalization=detector.normalization,
        long_side=detector.long_side,
        scales_per_octave=detector.scales_per_octave,
        config=detector.config,
    )


def main() -> int:
    """Measure all settings and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "coco-person" / "val.json")
    parser.add_argument("--limit", type=int, default=None, help="take the first N pictures")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not args.data.is_file():
        print(f"skipped: no annotations at {args.data}; set STRIDE32_DATA or --data")
        return 0
    images = read_detection_data(args.data, ("person",))[0][: args.limit]
    frames = [Frame(load_rgb(image.path)) for image in images]
    runtime = RuntimeConfig(device="cpu", threads=len(os.sched_getaffinity(0)))
    rows: dict[str, Any] = {}
    for name, settings in SETTINGS.items():
        scored = build_detector(DetectorConfig(conf=0.01, max_det=100, **settings), runtime)
        metrics = evaluate_detector(scored, images, ("person",))
        detector = build_detector(DetectorConfig(**settings), runtime)
        rows[name] = {key: round(metrics[key], 4) for key in ("ap", "ap50", "ap_small", "ap_medium", "ap_large")}
        rows[name] |= measure_times(detector, frames)
        print(name, rows[name], flush=True)
        if name == "person-window":
            assert isinstance(detector, WindowDetector)
            crops = measure_times(window_by_window(detector), frames[:CROP_PICTURES])
            rows["person-window, literal crops"] = crops
            print("literal crops", crops, flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "commit": commit,
        "machine": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "python": sys.version.split()[0],
        "pictures": len(images),
        "results": rows,
    }
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
