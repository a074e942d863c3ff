"""Score the tracker on public detections without frames: motion and overlap only, no appearance.

    python benchmarks/eval_association.py DATA [--set high_conf=0.5] [--preset deepsort]

DATA holds SEQ/{gt/gt.txt, seqinfo.ini, det/det.txt} in MOTChallenge layout; ``--detections det_sort`` takes that
folder instead of det.
Writes benchmarks/results/association.json (``--out``), one entry a data folder, detections and preset.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import platform
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from vision.evaluation.tracking import evaluate_mot, read_ground_truth
from vision.geometry.boxes import xywh_to_xyxy, xyxy_to_xywh
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections

RESULTS = Path(__file__).parent / "results" / "association.json"


def track_sequence(detections: Path, length: int, config: TrackerConfig) -> str:
    """Return the MOTChallenge rows of one sequence's tracks."""
    table = np.loadtxt(detections, delimiter=",", ndmin=2)
    tracker = Tracker(config)
    rows = []
    for frame in range(1, length + 1):
        found = table[table[:, 0] == frame]
        tracks = tracker.update(
            Detections(xywh_to_xyxy(found[:, 2:6]), found[:, 6], np.zeros(len(found), np.int64)), frame_index=frame
        )
        for identity, box, score in zip(tracks.ids, xyxy_to_xywh(tracks.boxes), tracks.scores, strict=True):
            rows.append(f"{frame},{identity},{','.join(f'{value:.3f}' for value in box)},{score:.4f},-1,-1,-1\n")
    return "".join(rows)


def evaluate(data: Path, detections: str, config: TrackerConfig) -> dict[str, dict[str, float]]:
    """Return the scores of all sequences below ``data``."""
    with tempfile.TemporaryDirectory() as folder:
        for truth in sorted(data.glob("*/gt/gt.txt")):
            sequence = truth.parents[1]
            length = read_ground_truth(truth).length
            text = track_sequence(sequence / detections / "det.txt", length, config)
            (Path(folder) / f"{sequence.name}.txt").write_text(text)
        return evaluate_mot(data, folder)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--detections", default="det", help="folder of det.txt in each sequence")
    parser.add_argument("--preset", default="deepsort", choices=sorted(PRESETS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    changes = {key: ast.literal_eval(value) for key, value in (item.split("=", 1) for item in args.settings)}
    config = dataclasses.replace(PRESETS[args.preset], **changes)
    scores = evaluate(args.data, args.detections, config)
    for name, row in scores.items():
        print(f"{name:16}", " ".join(f"{key} {value:7.2f}" for key, value in row.items()))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    results[f"{args.data.name}/{args.detections} {' '.join([args.preset, *args.settings])}"] = {
        "config": dataclasses.asdict(config),
        "scores": {name: {key: round(value, 3) for key, value in row.items()} for name, row in scores.items()},
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
