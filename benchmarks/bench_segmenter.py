"""Time of a segmenter's call and of its parts, beside torchvision's segmenters in the same run.

    python benchmarks/bench_segmenter.py [--model street-fcn8s] [--threads N] [--quick] [--out FILE]

Timed are whole calls, from a uint8 picture to a class for each pixel, and their parts: preprocessing, network, readout
(enlarging the logits and choosing the class). Pictures are noise of the given size and the networks of other strides,
like the peers, have random weights: what a convolution costs depends on neither. Peers get the same preprocessed
picture and their classes are chosen by argmax; torchvision enlarges inside the network. They run as plain torch in
inference mode and as an ONNX file made by our own export. Each figure is the median with quartiles over the repeats,
and the processor time of all threads, which other work on the machine changes less.

"shared trunk" compares detector and segmenter on one trunk with the two one after the other, on the same frames at the
same size; where the models have no stages in common it says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vision.backbones.interface import IMAGENET_NORMALIZATION
from vision.backbones.registry import build_backbone
from vision.bench.latency import measure_latency
from vision.bench.machine import describe_machine
from vision.build import build_detector, build_pipeline, build_segmenter
from vision.config import PipelineConfig
from vision.detection.config import DetectorConfig
from vision.errors import ModelNotFoundError
from vision.geometry.letterbox import Letterbox
from vision.runtime.config import RuntimeConfig
from vision.runtime.engine import Engine, EngineInput, build_engine, default_threads
from vision.runtime.onnx_engine import OnnxEngine, export
from vision.runtime.preprocess import preprocess
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.fcn import FCN
from vision.segmentation.segmenter import CoarseLogits, EngineSegmenter
from vision.segmentation.torchvision_segmenters import MainOutput, build_torchvision
from vision.store import find_model
from vision.types import FloatArray, Frame

RESULTS = Path(__file__).parent / "results" / "segmenter.json"
PICTURE_HW, LARGE_HW, TILE = (360, 480), (1080, 1920), 512
PEERS = ("lraspp_mobilenet_v3_large", "fcn_resnet50")
ENGINES = ("onnx", "torch")
STRIDES = (32, 16, 8)

Row = dict[str, Any]


class Bench:
    """Takes times, prints and keeps them: name of a row -> name of a part -> figures."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.rows: dict[str, Row] = {}

    def time(self, row: str, part: str, call: Callable[[], object]) -> None:
        """Measure one part of a row."""
        latency = measure_latency(call, repeats=self.repeats)
        self.rows.setdefault(row, {})[part] = asdict(latency)
        print(f"{row:48} {part:12} {latency.median_ms:8.1f} ms  cpu {latency.cpu_ms:8.1f} ms", flush=True)


def noise(size_hw: tuple[int, int]) -> Frame:
    """Return a picture of seeded noise."""
    return Frame(np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8))


def time_parts(bench: Bench, row: str, segmenter: EngineSegmenter, engine: Engine, frame: Frame) -> None:
    """Measure the whole call on a picture, and its parts."""
    letterbox = segmenter.letterbox(frame)
    batch = preprocess(frame.image, letterbox, segmenter.normalization)[None]
    logits = engine.run(batch)[0][0]
    bench.time(row, "whole", lambda: segmenter.segment([frame]))
    bench.time(row, "preprocess", lambda: preprocess(frame.image, letterbox, segmenter.normalization))
    bench.time(row, "network", lambda: engine.run(batch))
    bench.time(row, "readout", lambda: segmenter.reading.read_coarse(logits, letterbox))


def bench_strides(bench: Bench, model: str, runtime: RuntimeConfig) -> None:
    """Measure networks of the model's form at every stride, with both engines."""
    card = find_model(model, kind="segmenter")
    frame, width = noise(PICTURE_HW), int(card.architecture.get("width", 0))
    for stride in STRIDES:
        backbone = build_backbone(card.architecture["backbone"])
        network = FCN(backbone, len(card.labels), stride=stride, width=width).eval()
        spec = EngineInput((4 * network.multiple,) * 2, dynamic_hw=True, digest=f"bench-{stride}")
        for name in ENGINES:
            engine = bench_engine(CoarseLogits(network), spec, replace(runtime, engine=name))
            segmenter = EngineSegmenter(
                engine,
                class_names=card.labels,
                normalization=backbone.normalization,
                multiple=network.multiple,
            )
            time_parts(bench, f"FCN-{stride}s, {size_text(frame)}, {name}", segmenter, engine, frame)


def bench_engine(network: nn.Module, spec: EngineInput, runtime: RuntimeConfig) -> Engine:
    """Return an engine; an export of random weights is of no use later, so it stays out of the cache."""
    if runtime.engine == "torch":
        return build_engine(network, spec, runtime)
    return OnnxEngine(export(network, spec), threads=runtime.threads)


def bench_model(bench: Bench, model: str, runtime: RuntimeConfig) -> None:
    """Measure the trained model by its name: the ordinary picture, and a large one whole and in tiles."""
    small, large = noise(PICTURE_HW), noise(LARGE_HW)
    for label, frame, settings in (
        ("whole picture", small, {}),
        ("whole picture", large, {"long_side": max(LARGE_HW)}),
        (f"tiles of {TILE}", large, {"tile": TILE}),
    ):
        config = SegmenterConfig(model=model, **settings)  # type: ignore[arg-type]
        with closing(build_segmenter(config, runtime)) as segmenter:
            row = f"{Path(model).name}, {size_text(frame)}, {label}, onnx"
            bench.time(row, "whole", lambda segmenter=segmenter, frame=frame: segmenter.segment([frame]))


def bench_peers(bench: Bench, names: tuple[str, ...], threads: int) -> None:
    """Measure torchvision's networks of 21 classes, as plain torch and through ONNX Runtime."""
    frame = noise(PICTURE_HW)
    letterbox = Letterbox.stretch(frame.size_hw, frame.size_hw)
    torch.set_num_threads(threads)

    def prepare() -> FloatArray:
        return preprocess(frame.image, letterbox, IMAGENET_NORMALIZATION)[None]

    batch = prepare()
    for name in names:
        network = MainOutput(build_torchvision(name, 21)).eval()

        def run_torch(network: nn.Module = network) -> torch.Tensor:
            with torch.inference_mode():
                return torch.as_tensor(network(torch.from_numpy(batch)))

        def whole_torch(run: Callable[[], torch.Tensor] = run_torch) -> torch.Tensor:
            prepare()
            return run().argmax(1)

        row = f"torchvision {name}, {size_text(frame)}"
        bench.time(f"{row}, torch", "whole", whole_torch)
        bench.time(f"{row}, torch", "network", run_torch)
        spec = EngineInput(PICTURE_HW, dynamic_hw=False, digest="bench")
        engine = OnnxEngine(export(network, spec), threads=threads)
        bench.time(f"{row}, onnx", "whole", lambda engine=engine: engine.run(prepare())[0].argmax(1))
        bench.time(f"{row}, onnx", "network", lambda engine=engine: engine.run(batch))


def bench_shared_trunk(bench: Bench, model: str, runtime: RuntimeConfig) -> str:
    """Measure detector and segmenter with and without a shared trunk; return what they share, in words."""
    config = PipelineConfig(segmentation=SegmenterConfig(model=model), runtime=runtime)
    side = find_model(config.detection.model, kind="detector").preprocess["long_side"]
    config = replace(config, segmentation=replace(config.segmentation, long_side=side))
    frame = noise(PICTURE_HW)
    row = f"{DetectorConfig().model} + {Path(model).name}, {size_text(frame)}"
    with closing(build_pipeline(config, track=False, segment=True)) as pipeline:
        if pipeline.trunk is None:
            return "nothing: the networks have no stages in common"
        bench.time(f"{row}, shared trunk", "whole", lambda: pipeline.process(frame))
    detector = build_detector(config.detection, runtime)
    with closing(build_segmenter(config.segmentation, runtime)) as segmenter:
        bench.time(
            f"{row}, one after the other", "whole", lambda: (detector.detect([frame]), segmenter.segment([frame]))
        )
        bench.time(f"{row}, one after the other", "detect", lambda: detector.detect([frame]))
        bench.time(f"{row}, one after the other", "segment", lambda: segmenter.segment([frame]))
    return f"the first stages, at {side} pixels"


def size_text(frame: Frame) -> str:
    """Return width x height."""
    return f"{frame.size_hw[1]} x {frame.size_hw[0]}"


def main() -> int:
    """Measure everything and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=SegmenterConfig().model, help="segmenter: name or folder")
    parser.add_argument("--threads", type=int, default=default_threads(), help="threads of every engine")
    parser.add_argument("--repeats", type=int, default=30, help="calls after the warm-up, within 20 seconds")
    parser.add_argument("--quick", action="store_true", help="3 repeats and the smaller peer, to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    try:
        find_model(args.model, kind="segmenter")
    except ModelNotFoundError as exc:
        print(f"skipped: {exc}")
        return 0
    machine = describe_machine()
    runtime = RuntimeConfig(device="cpu", threads=args.threads)
    bench = Bench(3 if args.quick else args.repeats)
    bench_model(bench, args.model, runtime)
    shared = bench_shared_trunk(bench, args.model, runtime)
    bench_strides(bench, args.model, runtime)
    bench_peers(bench, PEERS[:1] if args.quick else PEERS, args.threads)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    record = {
        "commit": commit,
        "machine": machine,
        "load_after": describe_machine()["load"],
        "threads": args.threads,
        "repeats": bench.repeats,
        "model": Path(args.model).name,
        "shared_trunk": shared,
        "rows": bench.rows,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
