"""Score a detector on pictures of another kind than its training's: frames of MOTChallenge sequences.

    python benchmarks/eval_transfer.py MOT15 [--model person-lite0] [--long-side 512]

MOT15 holds SEQ/{gt/gt.txt, img1/}. The public detections found beside (det, det_sort) are scored on the same frames for
comparison. Every row of gt.txt whose seventh column is not 0 counts as a person, hidden or not, so no detector reaches
1. Writes benchmarks/results/transfer.json (``--out``).
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np

from vision.build import build_detector
from vision.detection.config import DetectorConfig
from vision.evaluation.detection import coco_metrics
from vision.evaluation.tracking import read_ground_truth
from vision.geometry.boxes import xywh_to_xyxy
from vision.runtime.config import RuntimeConfig
from vision.training.datasets.pictures import AnnotatedImage, load_rgb
from vision.types import Detections, Frame

RESULTS = Path(__file__).parent / "results" / "transfer.json"
SHOWN = ("ap", "ap50", "ap75", "ar100", "f1", "f1_conf")


def annotated_frames(sequence: Path) -> list[AnnotatedImage]:
    """Return the frames of a MOTChallenge sequence with their people; the image id is the frame number."""
    rows = read_ground_truth(sequence / "gt" / "gt.txt").rows
    frames = []
    for path in sorted((sequence / "img1").iterdir()):
        number = int(path.stem)
        shown = rows[(rows[:, 0] == number) & (rows[:, 6] != 0)]
        boxes = xywh_to_xyxy(shown[:, 2:6]).astype(np.float32)
        frames.append(AnnotatedImage(path, number, boxes, np.zeros(len(boxes), np.int64)))
    return frames


def public_detections(path: Path, numbers: list[int]) -> dict[int, Detections]:
    """Return the detections of a MOTChallenge det.txt by frame number."""
    table = np.loadtxt(path, delimiter=",", ndmin=2)
    found = {}
    for number in numbers:
        rows = table[table[:, 0] == number]
        found[number] = Detections(xywh_to_xyxy(rows[:, 2:6]), rows[:, 6], np.zeros(len(rows), np.int64))
    return found


def score(sequence: Path, model: str, long_side: int) -> dict[str, dict[str, float]]:
    """Return the metrics of the model and of the public detections on one sequence."""
    frames = annotated_frames(sequence)
    settings = DetectorConfig(model=model, long_side=long_side, conf=0.01, max_det=100)
    detector = build_detector(settings, RuntimeConfig(device="cpu"))
    own = {frame.image_id: detector.detect([Frame(load_rgb(frame.path))])[0] for frame in frames}
    results = {f"{model} {long_side or 'default'}": own}
    for name in ("det", "det_sort"):
        if (sequence / name / "det.txt").is_file():
            results[name] = public_detections(sequence / name / "det.txt", list(own))
    return {
        name: {key: round(value, 4) for key, value in coco_metrics(frames, found, ("person",)).items() if key in SHOWN}
        for name, found in results.items()
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="person-lite0")
    parser.add_argument("--long-side", type=int, default=0, help="0 takes the card's")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for truth in sorted(args.data.glob("*/gt/gt.txt")):
        sequence = truth.parents[1]
        scores = score(sequence, args.model, args.long_side)
        for name, row in scores.items():
            print(f"{sequence.name:16} {name:22}", " ".join(f"{key} {value:.3f}" for key, value in row.items()))
        results.setdefault(sequence.name, {}).update(scores)
    results["python"] = platform.python_version()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
