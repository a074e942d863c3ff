"""What each term of the ``stride32`` preset brings, and whether the preset holds on sequences it was not chosen on.

    python benchmarks/ablate_association.py ../shared/data/mot-assoc [--samples 96] [--out FILE]

Two parts, both on public detections without frames (SEQ/{gt/gt.txt, det/det.txt}), each scored by TrackEval:

1. Ablation: the preset, and the preset with one term taken away, put back to a paper's value or added.
2. Leave one sequence out: ``--samples`` settings drawn at random (fixed seed) from wide ranges, around no preset.
   For each sequence the main effect of each factor is fitted on the *other* sequences, the best level of each is taken,
   and that setting is scored on the sequence left out: what choosing in this way is worth where nothing was seen.
   The preset was chosen in the same way on all of them, with finer steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from eval_association import Sequence, commit, evaluate_sequences, load_sequences

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


FACTORS: dict[str, tuple[Any, ...]] = {
    "cascade": (True, False),
    "relative_conf": (True, False),
    "high_conf": (0.6, 0.65, 0.7, 0.75, 0.8),
    "birth_above": (0.0, 0.05, 0.1),
    "low_conf": (0.1, 0.3, 1.0),
    "low_iou_distance": (0.35, 0.5, 0.65),
    "max_iou_distance": (0.7, 0.75, 0.8, 0.85),
    "n_init": (2, 3),
    "max_age": (15, 30, 45),
    "height_iou": (True, False),
    "fuse_score": (True, False),
    "lost_penalty": (0.0, 0.1, 0.2),
    "momentum": (0.0, 0.1, 0.2),
    "hold_size": (True, False),
    "shared_motion": (True, False),
    "nsa": (True, False),
    "reupdate": (True, False),
    "recovery": (True, False),
    "equal_start": (True, False),
    "std_weight_velocity": (1 / 320, 1 / 160, 1 / 80),
}
RIDGE = 8.0


def configure(levels: dict[str, Any]) -> TrackerConfig:
    """Return the settings of one level of each factor."""
    levels = dict(levels)
    birth = levels["high_conf"] + levels.pop("birth_above")
    return TrackerConfig(appearance=False, gate=0.0, confirm_first=True, birth_conf=birth, **levels)


def best_levels(samples: list[dict[str, Any]], scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return the level of each factor with the largest main effect on ``scores`` [S], by ridge regression.

    Single samples are a matter of luck, for one match more or less changes much; effects are averages over many.
    """
    columns = [(name, level) for name, levels in FACTORS.items() for level in levels]
    design = np.array([[float(sample[name] == level) for name, level in columns] for sample in samples])
    design -= design.mean(axis=0)
    effects = np.linalg.solve(design.T @ design + RIDGE * np.eye(len(columns)), design.T @ (scores - scores.mean()))
    by_level = dict(zip(columns, effects, strict=True))
    return {name: max(levels, key=lambda level: by_level[name, level]) for name, levels in FACTORS.items()}


def leave_one_out(
    sequences: dict[str, Sequence], samples: list[dict[str, Any]], table: npt.NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    """Return for each sequence its scores under the setting chosen on the others, and the mean HOTA of all samples."""
    result = {}
    for column, (name, sequence) in enumerate(sequences.items()):
        chosen = best_levels(samples, np.delete(table, column, axis=1).mean(axis=1))
        scores = evaluate_sequences({name: sequence}, configure(chosen))[name]
        figures = {key: round(scores[key], 2) for key in ("HOTA", "MOTA", "IDF1")}
        result[name] = figures | {"mean_of_samples": round(float(table[:, column].mean()), 2), "chosen": chosen}
        print(f"{name:16}", figures, flush=True)
    return result


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=96)
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
    samples = [
        {name: levels[int(rng.integers(len(levels)))] for name, levels in FACTORS.items()} for _ in range(args.samples)
    ]
    measured = [measure(configure(sample)) for sample in samples]
    table = np.array([[row[name]["HOTA"] for name in sequences] for row in measured])
    held_out = leave_one_out(sequences, samples, table)
    report = {
        "what": "HOTA/MOTA/IDF1 of the stride32 preset without appearance, its ablation, and leave-one-sequence-out",
        "ablation": ablation,
        "presets": presets,
        "leave_one_out": held_out,
        "samples": [sample | {"HOTA": row.tolist()} for sample, row in zip(samples, table, strict=True)],
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
