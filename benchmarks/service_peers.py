"""What the service is measured beside, each in a process of its own; started by bench_service.py.

    python benchmarks/service_peers.py null [--no-decode]      our service with a model that answers at once
    python benchmarks/service_peers.py bare --picture FILE     no server: calls in a loop, ordered by lines of stdin

Settings of the service come from the environment, as always.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vision.runtime.config import RuntimeConfig
from vision.types import Detections, Frame, ImageArray


class NullInput:
    """An input of nothing."""

    shape_key: Hashable = "null"


class NullModel:
    """A detector that finds nothing at once: what is left is the service."""

    task = "detect"
    max_batch = 1
    class_names = ("person",)
    engine = "null"
    _input = NullInput()
    _nothing = Detections.empty()

    def prepare(self, frame: Frame, options: Any = None) -> NullInput:
        """Return nothing to run."""
        return self._input

    def run(self, inputs: Sequence[Any]) -> list[Detections]:
        """Return no detections for each input."""
        return [self._nothing] * len(inputs)

    def close(self) -> None:
        """Nothing to let go."""


def serve_null(*, decode: bool) -> int:
    """Serve the null model as ``python -m service`` serves real ones."""
    from service import __main__ as program
    from service import inference
    from service.app import create_app
    from service.settings import load_settings

    if not decode:
        picture = np.zeros((480, 640, 3), np.uint8)

        def skip(data: bytes, **kwargs: Any) -> ImageArray:
            return picture

        inference.decode_image = skip
    program.create_app = partial(create_app, load=lambda kind, model, runtime: NullModel())
    return program.serve(load_settings())


def load_detector(threads: int = 0) -> Any:
    """Return the default detector."""
    from vision.build import build_detector
    from vision.detection.config import DetectorConfig

    return build_detector(DetectorConfig(), RuntimeConfig(device="cpu", threads=threads))


def decode(body: bytes) -> Frame:
    """Return the picture of a request's body."""
    from vision.io.images import decode_image

    return Frame(decode_image(body))


def run_bare(picture: Path) -> None:
    """Do what stdin orders, ``NAME SECONDS`` a line, and answer each with a line of JSON."""
    body, detector = picture.read_bytes(), load_detector()

    def prepare() -> Any:
        return detector.prepare(decode(body))

    orders: dict[str, Callable[[float], dict[str, Any]]] = {
        "decode": lambda seconds: time_calls(lambda: decode(body), seconds),
        "sequence": lambda seconds: time_calls(lambda: detector.detect_prepared([prepare()]), seconds),
        "overlapped": lambda seconds: time_overlapped(prepare, lambda item: detector.detect_prepared([item]), seconds),
    }
    found = detector.detect([decode(body)])[0]
    print(json.dumps({"detections": len(found), "engine": detector.engine.name}), flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        print(json.dumps(orders[name](float(seconds))), flush=True)


def time_calls(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """Return rate, wall and processor time of a call in a loop."""
    for _ in range(3):
        call()
    times_ms: list[float] = []
    cpu, began = time.process_time(), time.perf_counter()
    while (start := time.perf_counter()) < began + seconds:
        call()
        times_ms.append(1000 * (time.perf_counter() - start))
    return _figures(times_ms, time.perf_counter() - began, time.process_time() - cpu)


def time_overlapped(prepare: Callable[[], Any], run: Callable[[Any], object], seconds: float) -> dict[str, Any]:
    """Return the same with the next two inputs made ready in a thread while the network runs."""
    times_ms: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(prepare), pool.submit(prepare)]
        run(ahead[0].result())
        cpu, began = time.process_time(), time.perf_counter()
        while (start := time.perf_counter()) < began + seconds:
            item = ahead.pop(0).result()
            ahead.append(pool.submit(prepare))
            run(item)
            times_ms.append(1000 * (time.perf_counter() - start))
        elapsed, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return _figures(times_ms, elapsed, cpu_s)


def _figures(times_ms: list[float], elapsed_s: float, cpu_s: float) -> dict[str, Any]:
    p50, p95, p99 = np.percentile(times_ms, (50, 95, 99)).tolist()
    count = len(times_ms)
    return {
        "requests": count,
        "per_s": count / elapsed_s,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "cpu_ms": 1000 * cpu_s / count,
    }


def main() -> int:
    """Start one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("null", "bare"))
    parser.add_argument("--no-decode", action="store_true", help="null: give every request one grey picture")
    parser.add_argument("--picture", type=Path, help="bare: the picture")
    args = parser.parse_args()
    if args.what == "null":
        return serve_null(decode=not args.no_decode)
    run_bare(args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
