"""Accuracy and time of tiled detection on large pictures, beside the same detector on the whole picture.

    python benchmarks/bench_tiles.py [--data FOLDER/coco-person/val.json] [--out FILE]

Large pictures are made of the validation pictures of coco-person, none of which the detector was trained on: 3 x 3 and
6 x 6 of them in cells of 416 pixels, on grey, in the order of the file. Each setting is measured with the score floor
of `stride32 eval detector` (0.01, at most 100 boxes for each small picture), so AP is over all scores. The time is the
processor time of the whole detect call at the default threshold with one thread, the median of three large pictures:
other work on the machine hardly changes it. Skips when the data is absent.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vision.build import build_detector
from vision.detection.config import DetectorConfig
from vision.evaluation.detection import coco_metrics
from vision.runtime.config import RuntimeConfig
from vision.training.datasets.detection import read_detection_data
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.types import Detections, Frame

RESULTS = Path(__file__).parent / "results" / "tiles.json"
DATA = Path(os.environ.get("STRIDE32_DATA", Path(__file__).parents[2] / "shared" / "data"))
CELL = 416
GREY = 114
TIMED_PICTURES = 3
SETTINGS: dict[str, dict[str, Any]] = {
    "whole picture, 512": {},
    "whole picture, 1280": {"long_side": 1280},
    "tiles 640": {"tile": 640},
    "tiles 416": {"tile": 416},
    "tiles 416, without the whole picture": {"tile": 416, "tile_full": False},
    "tiles 416, overlap 0": {"tile": 416, "overlap": 0.0},
    "tiles 416, matched by ios": {"tile": 416, "tile_match": "ios"},
    "tiles 416, matched by iou": {"tile": 416, "tile_match": "iou"},
}


def make_mosaic(images: list[AnnotatedImage], side: int, image_id: int) -> tuple[Frame, AnnotatedImage]:
    """Return a picture of side x side cells with its objects."""
    canvas = np.full((side * CELL, side * CELL, 3), GREY, np.uint8)
    boxes = []
    for place, image in enumerate(images):
        y, x = place // side * CELL, place % side * CELL
        picture = load_rgb(image.path)[:CELL, :CELL]
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
        boxes.append(image.boxes + np.float32([x, y, x, y]))
    truth = AnnotatedImage(
        Path(f"mosaic-{image_id}"), image_id, np.concatenate(boxes), np.concatenate([image.labels for image in images])
    )
    return Frame(canvas), truth


def make_mosaics(images: list[AnnotatedImage], side: int) -> list[tuple[Frame, AnnotatedImage]]:
    """Return as many full mosaics as the pictures give."""
    cells = side * side
    return [
        make_mosaic(images[start : start + cells], side, start // cells + 1)
        for start in range(0, len(images) - cells + 1, cells)
    ]


def measure(settings: dict[str, Any], mosaics: list[tuple[Frame, AnnotatedImage]], cells: int) -> dict[str, Any]:
    """Return AP figures, and the time of a call, of one setting."""
    runtime = RuntimeConfig(device="cpu", threads=1)
    config = DetectorConfig(conf=0.01, max_det=100 * cells, **settings)
    detector = build_detector(config, runtime)
    # The library counts at most 100 boxes a picture; a large picture is scored cell by cell, as if cut apart again.
    found: dict[int, Detections] = {}
    truths: list[AnnotatedImage] = []
    for frame, truth in mosaics:
        for cell, (part, objects) in enumerate(split(detector.detect([frame])[0], truth, cells)):
            key = truth.image_id * 1000 + cell
            found[key] = part
            truths.append(replace(objects, image_id=key))
    scores = coco_metrics(truths, found, ["person"])
    timed = build_detector(replace(config, conf=DetectorConfig().conf, max_det=300), runtime)
    timed.detect([mosaics[0][0]])
    return {
        **{name: round(scores[name], 4) for name in ("ap", "ap50", "ap_small", "ap_medium", "ap_large")},
        "cpu_ms": round(statistics.median([cpu_ms(timed, frame) for frame, _ in mosaics[:TIMED_PICTURES]])),
    }


def split(found: Detections, truth: AnnotatedImage, cells: int) -> list[tuple[Detections, AnnotatedImage]]:
    """Return the boxes and the objects of each cell, by their centres."""
    side = round(cells**0.5)
    places = [cell_of(boxes, side) for boxes in (found.boxes, truth.boxes)]
    return [
        (
            found[places[0] == cell],
            replace(truth, boxes=truth.boxes[places[1] == cell], labels=truth.labels[places[1] == cell]),
        )
        for cell in range(cells)
    ]


def cell_of(boxes: np.ndarray, side: int) -> np.ndarray:
    """Return the index of the cell that holds the centre of each box."""
    column, row = ((boxes[:, :2] + boxes[:, 2:]) / 2 / CELL).astype(int).clip(0, side - 1).T
    return np.asarray(row * side + column)


def cpu_ms(detector: Any, frame: Frame) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    detector.detect([frame])
    return (time.process_time() - start) * 1e3


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "coco-person" / "val.json")
    parser.add_argument("--limit", type=int, help="small pictures to use; all by default")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[3, 6], help="small pictures along a side of a large one"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"skipped: {arguments.data} is absent; set STRIDE32_DATA or pass --data")
    load = os.getloadavg()[0]
    images, _ = read_detection_data(arguments.data, ("person",))
    report: dict[str, Any] = {
        "model": DetectorConfig().model,
        "pictures": f"{len(images[: arguments.limit])} of {arguments.data.parent.name}/{arguments.data.name}",
        "sizes": {},
    }
    for side in arguments.sides:
        mosaics = make_mosaics(images[: arguments.limit], side)
        rows = report["sizes"][f"{len(mosaics)} pictures of {side * CELL} x {side * CELL}"] = {}
        for name, settings in SETTINGS.items():
            rows[name] = measure(settings, mosaics, side * side)
            print(f"{side * CELL:5} {name:40} {rows[name]}", flush=True)
    report |= {
        "load_before": load,
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
