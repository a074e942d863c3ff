"""What each part of the embedder's training brings: short runs that differ in one thing.

    taskset -c 1 python benchmarks/ablate_embedder.py CROPS --work DIR [--only base,stripes4 | --sizes] [--out FILE]

CROPS is a folder of crops as for `stride32 train embedder`, Market-1501. Every run trains on cameras 1 to 3 of the
people that are left when the last 100 by id (the test people of the shipped model, which no run sees) and the 100
before them are taken away. The latter are then found again by cameras 1 to 3 ("same cameras") and by cameras 4 to 6
("other cameras"), which the network has never seen. The weights are those at the end of the run: nothing is chosen.

`ms` is the processor time of one crop in ONNX Runtime, one thread, batch 32, without resizing: other work on the
machine hardly changes it. Runs that are complete in --work are not trained again, interrupted ones go on. Writes one
row a variant into benchmarks/results/reid_ablation.json (--out) after each.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from vision.backbones.registry import build_backbone
from vision.bench.machine import describe_machine
from vision.card import CARD_FILE, read_card
from vision.config import from_dict
from vision.evaluation.reid import evaluate_reid
from vision.reid.embedder import load_embedder, load_network
from vision.reid.network import EmbeddingNetwork
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import EngineInput
from vision.runtime.onnx_engine import OnnxEngine, export
from vision.training.checkpoints import LAST, read_run_state
from vision.training.embedder_config import EmbedderTrainingConfig
from vision.training.fit_embedder import train_embedder

RESULTS = Path(__file__).parent / "results" / "reid_ablation.json"
TRAIN_CAMERAS, OTHER_CAMERAS = (1, 2, 3), (4, 5, 6)
PEOPLE = {"holdout_people": 100, "exclude_people": 100}
BASE = {
    **PEOPLE,
    "cameras": list(TRAIN_CAMERAS),
    "export_checkpoint": "last",
    "epochs": 12,
    "eval_every": 6,
    "device": "cpu",
    "threads": 1,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "stripes4": {"stripes": 4},
    # The others differ from stripes4 in one thing.
    "no_triplet": {"stripes": 4, "triplet_weight": 0},
    "no_erasing": {"stripes": 4, "erase": 0},
    "stripes4_aug": {"stripes": 4, "box_jitter": 0.1, "low_resolution": 0.3, "grey": 0.1, "colour": 1.5},
    "size256": {"stripes": 4, "size_hw": [256, 128]},
}
SIZES = ((128, 64), (192, 96), (256, 128))
TIMED_BATCH, TIMED_REPEATS = 32, 60


def run_variant(name: str, data: Path, work: Path) -> dict[str, Any]:
    """Train one variant, or take it from ``work``, and return its row."""
    table = {**BASE, **VARIANTS[name], "data": str(data), "out": str(work / name), "name": name}
    config = from_dict(EmbedderTrainingConfig, table)
    # A run ends with its exported model.
    if not (work / name / name / CARD_FILE).is_file():
        train_embedder(config)
    card = read_card(work / name / name)
    embedder = load_embedder(card, RuntimeConfig(device="cpu", threads=1))
    row: dict[str, Any] = {"settings": VARIANTS[name], "epochs": config.epochs}
    for key, cameras in (("same_cameras", TRAIN_CAMERAS), ("other_cameras", OTHER_CAMERAS)):
        found = evaluate_reid(
            embedder, data, holdout=config.holdout_people, exclude=config.exclude_people, cameras=cameras
        )
        row[key] = {metric: round(found[metric], 4) for metric in ("rank1", "mAP", "queries")}
    embedder.close()
    row["ms"] = round(crop_ms(load_network(card), config.size_hw), 3)
    row["weights_mb"] = round(card.weights_path.stat().st_size / 1e6, 2)
    return {**row, "minutes": round(read_run_state(work / name / LAST).elapsed_s / 60, 1)}


def time_sizes() -> dict[str, float]:
    """Return the time of networks that differ in the size of the crop and in the stages used; weights do not matter."""
    found = {}
    for stride, dense in ((16, False), (32, False), (32, True)):
        network = EmbeddingNetwork(build_backbone("tf_efficientnet_lite0"), stride=stride, dense=dense)
        for size_hw in SIZES:
            name = f"{size_hw[0]}x{size_hw[1]}, stride {stride}{', dense' if dense else ''}"
            found[name] = round(crop_ms(network.eval(), size_hw), 3)
            print(name, found[name])
    return found


def crop_ms(network: EmbeddingNetwork, size_hw: tuple[int, int]) -> float:
    """Return the least processor time in ms of one crop in a batch, one thread."""
    engine = OnnxEngine(export(network, EngineInput(example_hw=size_hw, dynamic_hw=False, digest="")), threads=1)
    crops = np.random.default_rng(0).uniform(-1, 1, (TIMED_BATCH, 3, *size_hw)).astype(np.float32)
    engine.run(crops)
    times = []
    for _ in range(TIMED_REPEATS):
        started = time.process_time()
        engine.run(crops)
        times.append(time.process_time() - started)
    return 1000 * min(times) / TIMED_BATCH


def main() -> None:
    """Run the ablation from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default="", help="names of variants, joined by commas")
    parser.add_argument("--sizes", action="store_true", help="time networks by size in place of training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    logging.getLogger("vision").setLevel(logging.INFO)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    if args.sizes:
        write(args.out, {**results, "ms_by_size": time_sizes()})
        return
    for name in args.only.split(",") if args.only else VARIANTS:
        row = run_variant(name, args.data, args.work)
        results.setdefault("variants", {})[name] = row
        write(args.out, results)
        print(name, json.dumps(row))


def write(out: Path, results: dict[str, Any]) -> None:
    """Write the results with what they were made by."""
    protocol = {**BASE, "validated_people": 100, "timed": f"ONNX Runtime, 1 thread, batch {TIMED_BATCH}"}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**results, "protocol": protocol, "machine": describe_machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
