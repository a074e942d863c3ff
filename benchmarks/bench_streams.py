"""Measure what joining the frames and crops of many streams in one batch gains over a pipeline for each stream.

    python benchmarks/bench_streams.py PICTURES --streams 1 4 16

PICTURES is a folder of frames; each stream shows them from another one on. Both ways share one detector and one
embedder, run in turns in one process, and give the same tracks. Times are CPU milliseconds a frame with one thread
(wall time counts other work of the machine). Writes benchmarks/results/streams.json (``--out``).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch

from vision.bank import DETECT_BATCH, PipelineBank
from vision.build import build_bank, build_tracker
from vision.config import PipelineConfig
from vision.io.images import read_image
from vision.pipeline import Pipeline
from vision.reid.embedder import Embedder, load_embedder
from vision.runtime.config import RuntimeConfig
from vision.store import find_model
from vision.tracking.bank import TrackerBank
from vision.tracking.config import TrackerConfig
from vision.types import Detections, Frame

RESULTS = Path(__file__).parent / "results" / "streams.json"
Streams = Mapping[str, Sequence[Frame]]


def make_streams(pictures: Path, count: int, length: int) -> Streams:
    """Return ``count`` streams of ``length`` frames."""
    files = sorted(path for path in pictures.iterdir() if path.is_file())
    images = [read_image(path).image for path in files]
    return {
        f"stream{number}": [Frame(images[(index + 7 * number) % len(images)], index) for index in range(length)]
        for number in range(count)
    }


def measure(streams: Streams, bank: PipelineBank, embedder: Embedder | None, config: TrackerConfig) -> dict[str, Any]:
    """Return CPU milliseconds a frame of both ways, and whether their tracks agree."""
    alone = {
        key: Pipeline(detector=bank.detector, embedder=embedder, tracker=build_tracker(config))  # type: ignore[arg-type]
        for key in streams
    }
    times: dict[str, list[float]] = {"pipelines": [], "bank": []}
    equal, boxes = True, 0
    for index in range(len(next(iter(streams.values())))):
        frames = {key: own[index] for key, own in streams.items()}
        start = time.process_time()
        expected = {key: alone[key].process(frame) for key, frame in frames.items()}
        middle = time.process_time()
        found = bank.process(frames)
        end = time.process_time()
        times["pipelines"].append(1e3 * (middle - start) / len(frames))
        times["bank"].append(1e3 * (end - middle) / len(frames))
        for key, outcome in found.items():
            one, other = outcome.result, expected[key]
            assert one is not None
            assert one.tracks is not None
            assert other.tracks is not None
            boxes += len(other.detections or ())
            equal &= one.tracks.ids.tolist() == other.tracks.ids.tolist()
            equal &= np.allclose(one.tracks.boxes, other.tracks.boxes, atol=0.05)
    rounds = slice(2, None)  # the first rounds allocate
    row: dict[str, Any] = {name: float(np.median(values[rounds])) for name, values in times.items()}
    quartiles = {name: np.percentile(values[rounds], [25, 75]).round(3).tolist() for name, values in times.items()}
    objects = boxes / sum(len(own) for own in streams.values())
    return {"cpu_ms": row, "quartiles": quartiles, "same_tracks": bool(equal), "objects": round(objects, 2)}


class GivenBoxes:
    """Stands for a detector: finds the boxes of a MOTChallenge-like crowd at no cost, so that crops alone are timed."""

    class_names = ("person",)

    def __init__(self, count: int) -> None:
        low = np.random.default_rng(0).uniform((0, 0), (560, 330), (count, 2))
        self.boxes = np.concatenate([low, low + np.array([50, 130])], axis=1).astype(np.float32)

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the same boxes for each frame."""
        count = len(self.boxes)
        return [Detections(self.boxes, np.full(count, 0.9), np.zeros(count, np.int64)) for _ in frames]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--objects", type=int, nargs="+", default=[2, 8], help="boxes a frame where crops are timed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    runtime = RuntimeConfig(device="cpu", threads=1)
    config = PipelineConfig(runtime=runtime)
    whole = build_bank(config)
    embedder = load_embedder(find_model(config.embedding.model, kind="embedder"), runtime)
    rows: list[dict[str, Any]] = []
    for count in args.streams:
        streams = make_streams(args.pictures, count, args.rounds)
        stages: dict[str, tuple[Any, int]] = {
            "detect one by one, embed, track": (whole.detector, 1),
            f"detect in batches of {DETECT_BATCH}, embed, track": (whole.detector, DETECT_BATCH),
        }
        stages |= {f"embed and track {objects} given boxes": (GivenBoxes(objects), 1) for objects in args.objects}
        for stage, (detector, detect_batch) in stages.items():
            trackers = TrackerBank(config.tracking, embed=embedder.embed_frames)
            bank = PipelineBank(detector=detector, trackers=trackers, detect_batch=detect_batch)
            rows.append({"streams": count, "stage": stage} | measure(streams, bank, embedder, config.tracking))
            print(json.dumps(rows[-1]), flush=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    facts = {"commit": commit.stdout.strip(), "python": platform.python_version(), "machine": platform.machine()}
    facts |= {"onnxruntime": onnxruntime.__version__, "threads": 1, "rounds": args.rounds}
    args.out.write_text(json.dumps({"rows": rows} | facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
