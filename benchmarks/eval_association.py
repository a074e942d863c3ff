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


@dataclasses.dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence: its ground truth file and the detections of each frame."""

    ground_truth: Path
    frames: tuple[Detections, ...]


def load_sequences(data: Path, detections: str) -> dict[str, Sequence]:
    """Return the sequences below ``data`` by name; ``detections`` is the folder of det.txt in each."""
    sequences = {}
    for truth in sorted(data.glob("*/gt/gt.txt")):
        folder = truth.parents[1]
        table = np.loadtxt(folder / detections / "det.txt", delimiter=",", ndmin=2)
        frames = []
        for frame in range(1, read_ground_truth(truth).length + 1):
            found = table[table[:, 0] == frame]
            frames.append(Detections(xywh_to_xyxy(found[:, 2:6]), found[:, 6], np.zeros(len(found), np.int64)))
        sequences[folder.name] = Sequence(truth, tuple(frames))
    return sequences


def track(frames: tuple[Detections, ...], config: TrackerConfig) -> str:
    """Return the MOTChallenge rows of one sequence's tracks."""
    tracker = Tracker(config)
    rows = []
    for frame, detections in enumerate(frames, 1):
        tracks = tracker.update(detections, frame_index=frame)
        for identity, box, score in zip(tracks.ids, xyxy_to_xywh(tracks.boxes), tracks.scores, strict=True):
            rows.append(f"{frame},{identity},{','.join(f'{value:.3f}' for value in box)},{score:.4f},-1,-1,-1\n")
    return "".join(rows)


def evaluate_sequences(sequences: dict[str, Sequence], config: TrackerConfig) -> dict[str, dict[str, float]]:
    """Return the scores of each sequence and of all together."""
    with tempfile.TemporaryDirectory() as folder:
        for name, sequence in sequences.items():
            (Path(folder) / f"{name}.txt").write_text(track(sequence.frames, config))
        return evaluate_mot({name: sequence.ground_truth for name, sequence in sequences.items()}, folder)


def commit() -> str:
    """Return the short hash of the commit that ran."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--detections", default="det", help="folder of det.txt in each sequence")
    parser.add_argument("--only", default="", help="only sequences whose name has this text")
    parser.add_argument("--preset", default="deepsort", choices=sorted(PRESETS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    changes = {key: ast.literal_eval(value) for key, value in (item.split("=", 1) for item in args.settings)}
    config = dataclasses.replace(PRESETS[args.preset], **changes)
    sequences = load_sequences(args.data, args.detections)
    chosen = {name: item for name, item in sequences.items() if args.only in name}
    scores = evaluate_sequences(chosen, config)
    for name, row in scores.items():
        print(f"{name:16}", " ".join(f"{key} {value:7.2f}" for key, value in row.items()))
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    place = f"{args.data.name}/{args.detections}" + (f"/{args.only}" if args.only else "")
    results[f"{place} {' '.join([args.preset, *args.settings])}"] = {
        "config": dataclasses.asdict(config),
        "scores": {name: {key: round(value, 3) for key, value in row.items()} for name, row in scores.items()},
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
