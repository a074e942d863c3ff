"""What each term of the ``stride32`` preset brings, and whether the preset holds on sequences it was not chosen on.

    python benchmarks/ablate_association.py ../shared/data/mot-assoc [--samples 48] [--out FILE]

Two parts, both on public detections without frames (SEQ/{gt/gt.txt, det/det.txt}), each scored by TrackEval:

1. Ablation: the preset, and the preset with one term taken away, put back to a paper's value or added.
2. Leave one sequence out: ``--samples`` settings drawn at random (fixed seed) from wide ranges, around no preset.
   For each sequence the setting with the best mean HOTA on the *other* sequences is scored on the one left out. That is
   what choosing on these sequences is worth on one that was not seen; ``mean`` is what a setting drawn blindly gets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from eval_association import commit, evaluate_sequences, load_sequences

from vision.tracking.config import PRESETS, TrackerConfig

RESULTS = Path(__file__).parent / "results" / "association_ablation.json"
GROUPS = {"MOT17": lambda name: name.startswith("MOT17"), "MOT15": lambda name: not name.startswith("MOT17")}
ABSOLUTE = {"relative_conf": False, "high_conf": 0.6, "low_conf": 0.1, "birth_conf": 0.7}
VARIANTS: dict[str, dict[str, Any]] = {
    "stride32": {},
    "- relative score limits (ByteTrack's instead)": ABSOLUTE,
    "- unsure detections": {"low_conf": 1.0},
    "- height IoU": {"height_iou": False},
    "- penalty of lost tracks": {"lost_penalty": 0.0},
    "- momentum": {"momentum": 0.0},
    "- kept size": {"hold_size": False},
    "- shared motion": {"shared_motion": False},
    "- first frame confirmed": {"confirm_first": False},
    "n_init 3": {"n_init": 3},
    "max_age 30": {"max_age": 30},
    "max_iou_distance 0.7": {"max_iou_distance": 0.7},
    "+ score in the cost": {"fuse_score": True},
    "+ cascade": {"cascade": True},
    "+ motion gate": {"gate": 9.4877},
    "+ NSA noise": {"nsa": True},
    "+ re-update": {"reupdate": True},
    "+ recovery": {"recovery": True},
    "+ equal start": {"equal_start": True},
    "detected boxes": {"output_boxes": "detected"},
}


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Return one setting of wide ranges."""

    def one(*values: Any) -> Any:
        return values[int(rng.integers(len(values)))]

    high = float(rng.uniform(0.6, 0.85))
    return {
        "appearance": False,
        "cascade": one(True, False),
        "gate": 0.0,
        "confirm_first": True,
        "relative_conf": one(True, False),
        "high_conf": high,
        "birth_conf": high + one(0.0, 0.05, 0.1),
        "low_conf": one(0.1, 0.3, 1.0),
        "low_iou_distance": one(0.35, 0.5, 0.65),
        "max_iou_distance": one(0.7, 0.75, 0.8, 0.85),
        "n_init": one(2, 3),
        "max_age": one(15, 30, 45),
        "height_iou": one(True, False),
        "fuse_score": one(True, False),
        "lost_penalty": one(0.0, 0.1, 0.2),
        "momentum": one(0.0, 0.1, 0.2),
        "hold_size": one(True, False),
        "shared_motion": one(True, False),
        "nsa": one(True, False),
        "reupdate": one(True, False),
        "recovery": one(True, False),
        "equal_start": one(True, False),
        "std_weight_velocity": one(1 / 320, 1 / 160, 1 / 80),
    }


def leave_one_out(scores: list[dict[str, float]], names: list[str]) -> dict[str, dict[str, float]]:
    """Return for each sequence the HOTA there of the setting best on the others, of the mean and of the best."""
    table = np.array([[score[name] for name in names] for score in scores])
    result = {}
    for column, name in enumerate(names):
        chosen = int(np.delete(table, column, axis=1).mean(axis=1).argmax())
        here = table[:, column]
        figures = {"chosen_on_others": here[chosen], "mean": here.mean(), "best_in_hindsight": here.max()}
        result[name] = {key: round(float(value), 2) for key, value in figures.items()} | {"sample": chosen}
    return result


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    sequences = load_sequences(args.data, "det")

    def measure(config: TrackerConfig) -> dict[str, dict[str, float]]:
        result = {}
        for group, belongs in GROUPS.items():
            scores = evaluate_sequences({name: item for name, item in sequences.items() if belongs(name)}, config)
            result[group] = scores.pop("combined")
            result |= scores
        return {name: {key: round(row[key], 2) for key in ("HOTA", "MOTA", "IDF1")} for name, row in result.items()}

    ablation = {}
    for name, changes in VARIANTS.items():
        ablation[name] = measure(dataclasses.replace(PRESETS["stride32"], **changes))
        print(
            f"{name:48}",
            *("/".join(f"{v:.1f}" for v in ablation[name][group].values()) for group in GROUPS),
            flush=True,
        )
    presets = {name: measure(config) for name, config in PRESETS.items()}
    rng = np.random.default_rng(0)
    samples = [draw(rng) for _ in range(args.samples)]
    names = list(sequences)
    scores = []
    for sample in samples:
        measured = measure(TrackerConfig(**sample))
        scores.append({name: measured[name]["HOTA"] for name in names})
    held_out = leave_one_out(scores, names)
    for name, row in held_out.items():
        print(f"{name:16}", row, "stride32", presets["stride32"][name]["HOTA"])
    report = {
        "what": "HOTA/MOTA/IDF1 of the stride32 preset without appearance, its ablation, and leave-one-sequence-out",
        "ablation": ablation,
        "presets": presets,
        "leave_one_out": held_out,
        "samples": [{**sample, "HOTA": score} for sample, score in zip(samples, scores, strict=True)],
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
