"""Appearance from crops beside appearance from the detector's own maps: recognition, time, and tracking with each.

    python benchmarks/eval_appearance.py MARKET1501 MOT15 [--parts recognition,time,tracking] [--threads 1]

Recognition: people of MARKET1501 that neither was trained on, in crops of the data's own size and of half of it. Time:
milliseconds a frame for 5, 20 and 50 people, of the detector with each embedder; both the wall and the processor time,
which other work on the machine changes little. Tracking: HOTA, MOTA and IDF1 on the sequences of MOT15 without
appearance and with each embedder, on our own detections and on those given in det_sort/det.txt; with the tracker's own
limit of the cosine distance, and with the limit that the held-out people of MARKET1501 suggest for each embedder by the
same rule (vision.evaluation.reid.distance_limit), so that neither has one made for it.

Writes benchmarks/results/appearance.json (``--out``); parts that are not measured stay as they are there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vision.bench.latency import measure_latency
from vision.bench.machine import describe_machine
from vision.build import build_detector, build_embedder, build_pipeline
from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.evaluation.reid import embed_folder, measure_crops
from vision.evaluation.tracking import evaluate_mot
from vision.io.sources import open_source
from vision.io.writers.mot import MotWriter, read_mot
from vision.reid.config import EmbedderConfig
from vision.runtime.config import RuntimeConfig
from vision.runtime.preprocess import resize
from vision.single_pass import SinglePassDetector, load_single_pass
from vision.store import find_model
from vision.tracking.config import PRESETS
from vision.training.datasets.crops import load_crops, read_crop_folder, split_people
from vision.training.embedder_config import HOLDOUT_PEOPLE
from vision.types import Detections, Frame

RESULTS = Path(__file__).parent / "results" / "appearance.json"
CROPS, MAPS = "reid-lite", "person-roi"
PARTS = ("recognition", "time", "tracking")
SHOWN = ("HOTA", "MOTA", "IDF1", "AssA", "IDSW")
COUNTS = (5, 20, 50)
HALF_HEIGHT = 64


def recognition(market: Path, runtime: RuntimeConfig) -> dict[str, dict[str, float]]:
    """Return the scores of both embedders on held-out people, 128 and 64 pixels tall."""
    scores = {}
    for height in (128, HALF_HEIGHT):
        settings = EmbedderConfig(model=MAPS, crop_height=height)
        with closing(_embedder(settings, runtime)) as embedder:
            scores[f"{MAPS}, {height} px"] = _rounded(measure_crops(*embed_folder(embedder, market)))
    files = read_crop_folder(market)
    crops = load_crops(files, split_people([file.person for file in files], HOLDOUT_PEOPLE)[1])
    with closing(_embedder(EmbedderConfig(model=CROPS), runtime)) as embedder:
        scores[f"{CROPS}, 128 px"] = _rounded(measure_crops(embedder.embed_crops(crops.images), crops))
        small = [resize(image, (HALF_HEIGHT, HALF_HEIGHT // 2)) for image in crops.images]
        scores[f"{CROPS}, {HALF_HEIGHT} px"] = _rounded(measure_crops(embedder.embed_crops(small), crops))
    return scores


def time_of_frames(mot: Path, runtime: RuntimeConfig, repeats: int) -> dict[str, Any]:
    """Return the latency of a frame of a sequence with each number of people, for each way to embed them."""
    with open_source(str(next(_sequences(mot)))) as source:
        frame = next(iter(source))
    # Boxes in random places, of the sizes of people there: what is on them changes no time.
    rng = np.random.default_rng(0)
    heights = rng.uniform(80, 240, max(COUNTS)).astype(np.float32)
    sizes = np.stack([heights * 0.4, heights], axis=1)
    corners = (rng.uniform(0, 1, sizes.shape) * (np.array(frame.size_hw[::-1]) - sizes)).astype(np.float32)
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    rows: dict[str, Any] = {}

    def measure(name: str, call: Callable[[], object]) -> None:
        rows[name] = asdict(measure_latency(call, repeats=repeats))
        print(f"{name:40} {rows[name]['median_ms']:8.2f} ms wall, {rows[name]['cpu_ms']:8.2f} ms processor")

    detector = build_detector(DetectorConfig(), runtime)
    single = load_single_pass(find_model(MAPS), DetectorConfig(), runtime, max_batch=64)
    measure("detector alone", lambda: detector.detect([frame]))
    measure("detector with maps", lambda: single.detector.detect_with_maps([frame]))
    ((_, maps),) = single.detector.detect_with_maps([frame])
    with closing(_embedder(EmbedderConfig(model=CROPS), runtime)) as embedder:
        for count in COUNTS:
            measure(f"{CROPS}, {count} people", partial(embedder.embed, frame, boxes[:count]))
    for count in COUNTS:
        measure(f"{MAPS}, {count} people", partial(single.embedder.embed_maps, maps, boxes[:count]))
    with closing(_embedder(EmbedderConfig(model=MAPS), runtime)) as embedder:
        for count in COUNTS:
            measure(f"{MAPS} for given boxes, {count} people", partial(embedder.embed, frame, boxes[:count]))
    return {"frame": f"{frame.size_hw[1]} x {frame.size_hw[0]}", "threads": runtime.threads, "rows": rows}


def tracking(mot: Path, runtime: RuntimeConfig, limits: Mapping[str, float], presets: list[str]) -> dict[str, Any]:
    """Return the scores of each tracker, detections and embedder, with each limit of the cosine distance."""
    scores: dict[str, Any] = {}
    for source in ("own detector", "det_sort"):
        frames = {name: _embedded(mot, runtime, name, source) for name in (CROPS, MAPS)}
        for preset in presets:
            base = replace(PRESETS[preset], appearance=True)
            runs = {"no appearance": (CROPS, replace(base, appearance=False))}
            for name, limit in limits.items():
                runs[f"{name}, limit {base.max_cosine_distance:g}"] = (name, base)
                runs[f"{name}, limit {limit:.2f} of held-out people"] = (
                    name,
                    replace(base, max_cosine_distance=round(limit, 2)),
                )
            for run, (name, settings) in runs.items():
                row = _score(mot, frames[name], PipelineConfig(tracking=settings))
                scores[f"{preset}, {source}, {run}"] = row
                line = " ".join(f"{key} {value:.1f}" for key, value in row["combined"].items())
                print(f"{preset}, {source}, {run:48} {line}", flush=True)
    return scores


def _embedded(mot: Path, runtime: RuntimeConfig, model: str, source: str) -> dict[str, list[tuple[Frame, Detections]]]:
    """Return the frames of each sequence, without their pictures, with their detections and embeddings."""
    settings = PipelineConfig(embedding=EmbedderConfig(model=model), runtime=runtime)
    found: dict[str, list[tuple[Frame, Detections]]] = {}
    given = source != "own detector"
    with closing(build_pipeline(settings, detect=not given)) as pipeline:
        assert given or isinstance(pipeline.detector, SinglePassDetector) == (model == MAPS)
        pipeline.tracker = None
        for sequence in _sequences(mot):
            boxes = read_mot(sequence / source / "det.txt") if given else {}
            with open_source(str(sequence)) as pictures:
                for frame in pictures:
                    own = boxes.get(frame.index, Detections.empty()) if given else None
                    detections = pipeline.process(frame, own).detections
                    assert detections is not None
                    bare = replace(frame, image=np.zeros((1, 1, 3), np.uint8))
                    found.setdefault(sequence.name, []).append((bare, detections))
    return found


def _score(
    mot: Path, frames: Mapping[str, list[tuple[Frame, Detections]]], settings: PipelineConfig
) -> dict[str, dict[str, float]]:
    """Return the scores of a tracker on detections with embeddings, by sequence and combined."""
    plain = replace(settings, embedding=EmbedderConfig(model="none"))
    with tempfile.TemporaryDirectory() as folder:
        for name, observed in frames.items():
            with closing(build_pipeline(plain, detect=False)) as pipeline:
                writer = MotWriter(Path(folder) / f"{name}.txt")
                for frame, detections in observed:
                    writer.write(frame, pipeline.process(frame, detections))
                writer.close()
        table = evaluate_mot({path.name: path / "gt" / "gt.txt" for path in _sequences(mot)}, folder)
    return {name: {key: round(float(row[key]), 2) for key in SHOWN} for name, row in table.items()}


def _sequences(mot: Path) -> Iterator[Path]:
    yield from (truth.parents[1] for truth in sorted(mot.glob("*/gt/gt.txt")))


def _embedder(settings: EmbedderConfig, runtime: RuntimeConfig) -> Any:
    embedder = build_embedder(settings, runtime)
    assert embedder is not None
    return embedder


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    row = {name: round(value, 4) for name, value in metrics.items()}
    print(row, flush=True)
    return row


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("market", type=Path)
    parser.add_argument("mot", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--trackers", default="deepsort", help="presets, separated by commas")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    runtime = RuntimeConfig(device="cpu", threads=args.threads)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    results["digests"] = {name: find_model(name).sha256[:12] for name in (CROPS, MAPS, DetectorConfig().model)}
    parts = args.parts.split(",")
    if "recognition" in parts:
        results["recognition"] = recognition(args.market, runtime)
    if "time" in parts:
        results["time"] = {**time_of_frames(args.mot, runtime, args.repeats), "machine": describe_machine()}
    if "tracking" in parts:
        known = results["recognition"]
        limits = {name: known[f"{name}, 128 px"]["distance_limit"] for name in (CROPS, MAPS)}
        results["tracking"] = tracking(args.mot, runtime, limits, args.trackers.split(","))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
