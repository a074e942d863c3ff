"""Score every tracker of the speed benchmark on public detections without frames: HOTA, MOTA and IDF1 by TrackEval.

    python benchmarks/eval_peers.py ../shared/data/mot-assoc [--only TEXT] [--thresholds 0.1,0.3,0.5,0.7] [--out FILE]

DATA holds SEQ/{gt/gt.txt, seqinfo.ini, det/det.txt} in MOTChallenge layout. Each tracker keeps its own parameters and
is given the detections from a score on; the score with the best HOTA over all sequences of a group is kept and named.
Sequences of MOT17 are one group, all others the second: their detectors and ground truth differ. Our presets run as
they are and so do the peers: neither is tuned to these sequences beyond that one threshold. What a tracker reports for
a frame is what is scored.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bench_tracker import describe, environment
from tracker_peers import Peer
from tracker_rows import all_rows

from vision.errors import VisionError
from vision.evaluation.tracking import evaluate_mot, read_ground_truth
from vision.geometry.boxes import xywh_to_xyxy
from vision.types import Detections

RESULTS = Path(__file__).parent / "results" / "association_peers.json"
THRESHOLDS = (0.0, 0.1, 0.3, 0.5, 0.7)
GROUPS = {"MOT17": lambda name: name.startswith("MOT17"), "MOT15": lambda name: not name.startswith("MOT17")}


def track_sequence(table: npt.NDArray[np.float64], length: int, peer: Peer, threshold: float) -> str:
    """Return the MOTChallenge rows of one sequence's tracks; ids become 1, 2, ... in order of appearance."""
    steps = peer.build(**peer.parameters)
    table = table[table[:, 6] >= threshold]
    numbers: dict[Any, int] = {}
    rows = []
    for frame in range(1, length + 1):
        found = table[table[:, 0] == frame]
        detections = Detections(xywh_to_xyxy(found[:, 2:6]), found[:, 6], np.zeros(len(found), np.int64))
        names, boxes = steps.read(steps.update(steps.prepare(detections)))
        for name, (left, top, right, bottom) in zip(names, boxes, strict=True):
            if not (right > left and bottom > top):
                continue  # a filter may turn a box inside out, and no file can hold that
            number = numbers.setdefault(name, len(numbers) + 1)
            rows.append(f"{frame},{number},{left:.3f},{top:.3f},{right - left:.3f},{bottom - top:.3f},1,-1,-1,-1\n")
    return "".join(rows)


def score(peer: Peer, sequences: dict[str, Path], threshold: float) -> dict[str, dict[str, float]]:
    """Return the scores of each sequence and of all together, rounded."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in sequences.items():
            length = read_ground_truth(path / "gt" / "gt.txt").length
            table = np.loadtxt(path / "det" / "det.txt", delimiter=",", ndmin=2)
            (Path(folder) / f"{name}.txt").write_text(track_sequence(table, length, peer, threshold))
        scores = evaluate_mot({name: path / "gt" / "gt.txt" for name, path in sequences.items()}, folder)
    return {name: {key: round(value, 3) for key, value in row.items()} for name, row in scores.items()}


def best(peer: Peer, sequences: dict[str, Path], thresholds: list[float]) -> dict[str, Any]:
    """Return the scores at the threshold with the highest combined HOTA, and the HOTA at each."""
    # A threshold below every score gives the same detections as the one before: do not run it twice.
    lowest = min(float(np.loadtxt(path / "det" / "det.txt", delimiter=",")[:, 6].min()) for path in sequences.values())
    chosen = [value for value in thresholds if value > lowest] or [thresholds[0]]
    below = [value for value in thresholds if value <= lowest]
    results = {value: score(peer, sequences, value) for value in sorted({*below[-1:], *chosen})}
    threshold = max(results, key=lambda value: results[value]["combined"]["HOTA"])
    return {
        "threshold": threshold,
        "combined": results[threshold]["combined"],
        "sequences": {name: row for name, row in results[threshold].items() if name != "combined"},
        "combined_at": {f"{value:g}": result["combined"] for value, result in results.items()},
    }


def run(name: str, peer: Peer, sequences: dict[str, Path], thresholds: list[float]) -> dict[str, Any]:
    """Return the row of one tracker; a package that is absent or fails is a row with its error."""
    about = describe(peer)
    try:
        row = best(peer, sequences, thresholds)
    except VisionError:
        raise
    except Exception as exc:  # the border to other people's code: any failure is theirs, and is reported
        return about | {"error": f"{type(exc).__name__}: {exc}"}
    combined = row["combined"]
    print(
        f"{name:34} from {row['threshold']:g}",
        *(f"{key} {combined[key]:6.2f}" for key in ("HOTA", "MOTA", "IDF1")),
        flush=True,
    )
    return about | row


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="", help="rows whose name has this text; others stay as the file has them")
    parser.add_argument("--thresholds", default=",".join(map(str, THRESHOLDS)))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    thresholds = sorted(float(value) for value in args.thresholds.split(","))
    report = json.loads(args.out.read_text()) if args.out.exists() else {"groups": {}}
    for group, belongs in GROUPS.items():
        sequences = {path.name: path for path in sorted(args.data.iterdir()) if belongs(path.name) and path.is_dir()}
        if not sequences:
            continue
        print(group, *sequences)
        # Without pictures there is no appearance: rows that differ from another by it alone are left out.
        rows = {name: peer for name, peer in all_rows().items() if not peer.appearance}
        known = report["groups"].get(group, {}).get("rows", {})
        kept = {name: known[name] for name in rows if name in known}
        report["groups"][group] = {"sequences": list(sequences), "rows": kept}
        for name, peer in rows.items():
            if args.only in name:
                kept[name] = run(name, peer, sequences, thresholds)
                # After every row: the slow peers take minutes, and an interrupted run keeps what it has.
                write(report, args.out)


def write(report: dict[str, Any], path: Path) -> None:
    """Write the scores with where they come from."""
    about = environment(0.0)
    report["what"] = "association on given detections, no appearance; each at the threshold with its best combined HOTA"
    report["commit"] = about["commit"]
    report["versions"] = about["versions"] | {"trackeval": importlib.metadata.version("trackeval")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
