"""Score what each step of the offline stage gains over the online tracks.

    python benchmarks/eval_offline.py DATA [--detections det] [--preset deepsort]
    python benchmarks/eval_offline.py DATA --pictures [--detections det_sort | --detections own]

DATA holds SEQ/{gt/gt.txt, seqinfo.ini, det/det.txt} in MOTChallenge layout, with ``--pictures`` also SEQ/img1. Then
embeddings are computed (and, with ``own``, the detections), so that linking can look at appearance.
Each row is one variant of the settings. The last part is a check of the choice: for each sequence the variant is
chosen that is best on the mean HOTA of all others, and its score on the sequence left out stands beside the default's.
Writes benchmarks/results/offline.json (``--out``), one entry a data folder, detections and preset.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filterpy
import numpy as np
import scipy

from vision.evaluation.tracking import Scores, evaluate_mot, read_ground_truth
from vision.io.tracks import write_tracks
from vision.io.writers.mot import read_mot
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.offline import refine
from vision.tracking.offline_config import OfflineConfig
from vision.tracking.recorder import SequenceRecorder
from vision.tracking.tracker import Tracker
from vision.tracking.trajectories import Trajectories
from vision.types import Detections, FrameResult

RESULTS = Path(__file__).parent / "results" / "offline.json"
NOTHING = OfflineConfig(rts=False, gaps="none", min_length=0)
SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")

VARIANTS: dict[str, OfflineConfig] = {
    "detected boxes": NOTHING,
    "rts": dataclasses.replace(NOTHING, rts=True),
    "min_length 5": dataclasses.replace(NOTHING, min_length=5),
    "linear": dataclasses.replace(NOTHING, gaps="linear"),
    "gaussian": dataclasses.replace(NOTHING, gaps="gaussian"),
    "gaps by rts": dataclasses.replace(NOTHING, gaps="rts"),
    "link": dataclasses.replace(NOTHING, link=True),
    "default": OfflineConfig(),
    "default, max_gap 10": OfflineConfig(max_gap=10),
    "default, max_gap 30": OfflineConfig(max_gap=30),
    "default, gaussian": OfflineConfig(gaps="gaussian", rts=False),
    "default + link": OfflineConfig(link=True),
    "default + link, max_gap 10": OfflineConfig(link=True, max_gap=10),
    "default + link, gaussian": OfflineConfig(link=True, gaps="gaussian", rts=False),
    "default + link by the tracker's gate": OfflineConfig(link=True, link_gate=9.4877, link_max_distance=1.0),
}


@dataclasses.dataclass(frozen=True)
class Sequence:
    """The online tracks of one sequence and what the recorder kept."""

    truth: Path
    online: Trajectories
    recorder: SequenceRecorder


def detected(sequence: Path, detections: str, pictures: bool) -> Iterator[Detections]:
    """Yield the detections of each frame, with embeddings where there are pictures."""
    given = None if detections == "own" else read_mot(sequence / detections / "det.txt")
    if not pictures:
        assert given is not None
        for index in range(read_ground_truth(sequence / "gt" / "gt.txt").length):
            yield given.get(index, Detections.empty())
        return
    from vision.build import build_pipeline, resolve_config
    from vision.config import PipelineConfig
    from vision.io.sources import open_source

    pipeline = build_pipeline(resolve_config(PipelineConfig()), detect=given is None)
    with open_source(sequence) as frames:
        for frame in frames:
            result = pipeline.process(frame, None if given is None else given.get(frame.index, Detections.empty()))
            assert result.detections is not None
            yield result.detections


def run(sequence: Path, detections: str, pictures: bool, config: TrackerConfig) -> Sequence:
    """Track one sequence online."""
    tracker, recorder = Tracker(config), SequenceRecorder()
    results = []
    for index, found in enumerate(detected(sequence, detections, pictures)):
        result = FrameResult(index, detections=found, tracks=tracker.update(found, frame_index=index))
        results.append(result)
        recorder.add(result)
    return Sequence(sequence / "gt" / "gt.txt", Trajectories.from_results(results), recorder)


def score(sequences: dict[str, Sequence], tracks: dict[str, Trajectories]) -> dict[str, Scores]:
    """Return the scores of each sequence and of all."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.txt" for name in tracks}
        for name, path in files.items():
            write_tracks(tracks[name], path)
        return evaluate_mot({name: sequence.truth for name, sequence in sequences.items()}, files)


def leave_one_out(scores: dict[str, dict[str, Scores]]) -> dict[str, dict[str, object]]:
    """Return for each sequence the variant that the others choose, and its HOTA there beside the default's."""
    names = [name for name in scores["default"] if name != "combined"]
    chosen: dict[str, dict[str, object]] = {}
    for left in names if len(names) > 2 else []:
        mean = {key: np.mean([row[name]["HOTA"] for name in names if name != left]) for key, row in scores.items()}
        best = max(mean, key=lambda key: float(mean[key]))
        hota = {key: round(scores[key][left]["HOTA"], 3) for key in (best, "default", "default + link", "online")}
        chosen[left] = {"chosen": best, "HOTA": hota}
    return chosen


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--detections", default="det", help="folder of det.txt in each sequence, or own")
    parser.add_argument("--pictures", action="store_true", help="compute embeddings from SEQ/img1")
    parser.add_argument("--preset", default="deepsort", choices=sorted(PRESETS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    changes = {key: ast.literal_eval(value) for key, value in (item.split("=", 1) for item in args.settings)}
    config = dataclasses.replace(PRESETS[args.preset], **changes)
    folders = sorted(path.parents[1] for path in args.data.glob("*/gt/gt.txt"))
    sequences = {folder.name: run(folder, args.detections, args.pictures, config) for folder in folders}
    scores = {"online": score(sequences, {name: sequence.online for name, sequence in sequences.items()})}
    seconds = {"online": 0.0}
    for key, variant in VARIANTS.items():
        begun = time.perf_counter()
        refined = {
            name: refine(sequence.recorder.trajectories(), variant, sequence.recorder.appearance())
            for name, sequence in sequences.items()
        }
        seconds[key] = time.perf_counter() - begun
        scores[key] = score(sequences, refined)
    for key, row in scores.items():
        combined = " ".join(f"{name} {row['combined'][name]:6.2f}" for name in SHOWN)
        each = " ".join(f"{row[name]['HOTA']:5.1f}" for name in sequences)
        print(f"{key:38} {combined} {seconds[key]:5.1f} s | HOTA {each}")
    chosen = leave_one_out(scores)
    for name, found in chosen.items():
        print(f"without {name:16} {found}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    kind = f"{args.data.name}/{args.detections}{' with appearance' if args.pictures else ''}"
    results[f"{kind} {' '.join([args.preset, *args.settings])}"] = {
        "scores": {
            key: {name: {item: round(value, 3) for item, value in values.items()} for name, values in row.items()}
            for key, row in scores.items()
        },
        "rows": int(sum(len(sequence.recorder.trajectories()) for sequence in sequences.values())),
        "seconds": {key: round(value, 2) for key, value in seconds.items()},
        "leave_one_out": chosen,
        "variants": {key: dataclasses.asdict(variant) for key, variant in VARIANTS.items()},
        "config": dataclasses.asdict(config),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "filterpy": filterpy.__version__},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
