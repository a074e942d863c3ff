"""Pictures a second on a GPU: a detector bare, behind the service's batcher and through HTTP, and a segmenter bare.

    python benchmarks/bench_gpu.py [--model NAME] [--segmenter NAME] [--precision fp32 fp16] [--seconds 3] [--repeats 5]
    python benchmarks/bench_gpu.py --device cpu --quick     # tries the script where there is no GPU

Rows. "engine": prepared pictures that lie on the device, batch after batch, for each batch size; "one by one" waits for
a batch before it launches the next, "overlapped" keeps two under way. "reference": the plain torch engine on the same
pictures (eager; the CPU resizes and decodes). "segmenter": these two of a segmenter, with the classes of all pixels of
the pictures. "decoding alone": JPEGs with all CPUs, which nothing after it can exceed. "batcher": from JPEG through the
service's queue, by as many clients as ``--clients`` says, each with one picture at a time. "http": the same clients in
a process of their own against a server on localhost. Pictures are a street of the demo clip. A figure is the median
over the repeats with quartiles. Writes benchmarks/results/gpu.json (or ``--out FILE``) on CUDA; where there is none it
says so and ends with code 3. ``--quick`` uses one size, small inputs and short windows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from service_processes import ServerProcess, python

from service.batching import Batcher
from vision.bench.machine import describe_machine
from vision.detection.config import DetectorConfig
from vision.detection.detector import load_anchor_detector
from vision.detection.device_detector import DeviceDetector, load_device_detector
from vision.detection.registry import with_card_thresholds
from vision.io.images import decode_image
from vision.runtime.config import Precision, RuntimeConfig
from vision.runtime.device_tuning import BATCH_BUCKETS
from vision.runtime.engine import default_threads
from vision.segmentation.config import SegmenterConfig
from vision.segmentation.device_segmenter import DeviceSegmenter, load_device_segmenter
from vision.segmentation.segmenter import load_fcn
from vision.store import find_model
from vision.types import Frame

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu.json"
PHOTOGRAPH = HERE.parent / "docs" / "images" / "demo.jpg"
NO_CUDA = 3
SIZES_HW = {"480 x 640": (480, 640), "720 x 1280": (720, 1280)}
DIFFERENT_PICTURES = 16

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured: windows of seconds, and how many."""

    seconds: float
    repeats: int


def pictures(size_hw: tuple[int, int]) -> list[bytes]:
    """Return JPEGs of the photograph at a size, each cut and joined again elsewhere so that no two are alike."""
    image = cv2.imdecode(np.frombuffer(PHOTOGRAPH.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    image = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    shifts = np.linspace(0, size_hw[1], DIFFERENT_PICTURES, endpoint=False).astype(int)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
    return [cv2.imencode(".jpg", np.roll(image, int(shift), axis=1), quality)[1].tobytes() for shift in shifts]


def summary(rates: list[float]) -> Row:
    """Return median and quartiles of pictures a second."""
    low, median, high = (round(float(value), 1) for value in np.percentile(rates, (25, 50, 75)))
    return {"images_per_s": median, "low": low, "high": high, "repeats": len(rates)}


def measure(step: Callable[[], int], effort: Effort) -> Row:
    """Return the rate of ``step``, which handles so many pictures as it returns."""
    step()
    rates = []
    for _ in range(effort.repeats):
        done, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < effort.seconds:
            done += step()
        rates.append(done / passed if done else 0.0)
    return summary(rates)


def bench_engine(
    stage: DeviceDetector | DeviceSegmenter, frames: list[Frame], batches: tuple[int, ...], effort: Effort
) -> Row:
    """Return rates of batches of pictures that lie on the device."""
    rows: Row = {}
    for batch in batches:
        inputs = [stage.prepare(frames[index % len(frames)]) for index in range(batch)]
        for _ in range(5):  # until its graph is recorded
            stage.collect_all(stage.launch_all(inputs))
        waiting = deque([stage.launch(inputs)])

        def one_by_one(inputs: list[Any] = inputs) -> int:
            return len(stage.collect_all(stage.launch_all(inputs)))

        def overlapped(inputs: list[Any] = inputs, waiting: deque[Any] = waiting) -> int:
            waiting.append(stage.launch(inputs))
            return len(stage.collect(waiting.popleft()))

        rows[str(batch)] = {"one by one": measure(one_by_one, effort), "overlapped": measure(overlapped, effort)}
        stage.collect(waiting.popleft())
        say(f"  engine, batch {batch}", rows[str(batch)]["overlapped"])
    return rows


def bench_reference(
    answer: Callable[[list[Frame]], Sequence[object]], frames: list[Frame], batches: tuple[int, ...], effort: Effort
) -> Row:
    """Return rates of a plain torch engine, whose preprocessing and reading are the CPU's."""
    rows: Row = {}
    for batch in batches:
        group = [frames[index % len(frames)] for index in range(batch)]
        rows[str(batch)] = measure(lambda group=group: len(answer(group)), effort)  # type: ignore[misc]
        say(f"  reference, batch {batch}", rows[str(batch)])
    return rows


def bench_segmenter(options: argparse.Namespace, precision: Precision, frames: list[Frame], effort: Effort) -> Row:
    """Return rates of a segmenter's batches of pictures that lie on the device."""
    card = find_model(options.segmenter, kind="segmenter")
    config = SegmenterConfig(model=options.segmenter, long_side=options.long_side, max_batch=max(options.batches))
    with closing(load_device_segmenter(card, config, RuntimeConfig(device=options.device, precision=precision))) as own:
        tuning = own.autotune(frames[0].size_hw, buckets=options.batches, repeats=effort.repeats)
        print(f"  {options.segmenter}, autotune: batches of {tuning.cap}", flush=True)
        rows: Row = {"batch_cap": tuning.cap, "out_of_memory": tuning.out_of_memory}
        rows["engine"] = bench_engine(own, frames, options.batches, effort)
        rows["graphs"] = own.engine.graph_count
    if precision == "fp32":
        with closing(load_fcn(card, config, RuntimeConfig(device=options.device, engine="torch"))) as plain:
            rows["reference"] = bench_reference(plain.segment, frames, options.batches, effort)
    return rows


def count_for(effort: Effort, clients: int, ask: Callable[[int], object]) -> Row:
    """Return the rate at which ``clients`` threads are answered, each calling ``ask`` with its number over and over."""
    done = [0] * clients
    over = threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            ask(number)
            done[number] += 1

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(client, number) for number in range(clients)]
        try:
            time.sleep(effort.seconds / 2)
            rates = []
            for _ in range(effort.repeats):
                before, start = sum(done), time.perf_counter()
                time.sleep(effort.seconds)
                rates.append((sum(done) - before) / (time.perf_counter() - start))
        finally:
            over.set()
        for future in running:
            future.result()
    return summary(rates)


def bench_batcher(detector: DeviceDetector, jpegs: list[bytes], cap: int, clients: int, effort: Effort) -> Row:
    """Return the rate from JPEG to detections through the service's batcher, and how full its batches were."""
    batches: list[int] = []  # that of each picture
    made = Batcher(detector.detect_prepared, max_batch=cap, launcher=detector)
    # As in the service: a pool decodes, and clients wait. A thread for each client would fight over the interpreter.
    with closing(made) as batcher, ThreadPoolExecutor(default_threads()) as decoders:

        def ask(number: int) -> object:
            jpeg = jpegs[number % len(jpegs)]
            item = decoders.submit(lambda: detector.prepare(Frame(decode_image(jpeg)))).result()
            served = batcher.ask(item)
            batches.append(served.batch)
            return served

        row = count_for(effort, clients, ask)
    mean_batch = len(batches) / sum(1 / size for size in batches)
    return {**row, "clients": clients, "cap": cap, "mean_batch": round(mean_batch, 2)}


def bench_decoding(jpegs: list[bytes], effort: Effort) -> Row:
    """Return the rate of decoding alone with all CPUs: what the rest cannot exceed."""
    threads = default_threads()
    return {**count_for(effort, threads, lambda number: decode_image(jpegs[number % len(jpegs)])), "threads": threads}


def bench_size(size_hw: tuple[int, int], options: argparse.Namespace, precision: Precision, effort: Effort) -> Row:
    """Return all rows of one size of picture."""
    jpegs = pictures(size_hw)
    frames = [Frame(decode_image(jpeg)) for jpeg in jpegs]
    card = find_model(options.model, kind="detector")
    config = with_card_thresholds(DetectorConfig(model=options.model, long_side=options.long_side), card)
    detector = load_device_detector(card, config, RuntimeConfig(device=options.device, precision=precision))
    tuning = detector.autotune(size_hw, buckets=options.batches, repeats=effort.repeats)
    print(f"  autotune: batches of {tuning.cap}", flush=True)
    rows: Row = {"batch_cap": tuning.cap, "out_of_memory": tuning.out_of_memory}
    rows["engine"] = bench_engine(detector, frames, options.batches, effort)
    rows["graphs"] = detector.engine.graph_count
    if precision == "fp32":
        runtime = RuntimeConfig(device=options.device, engine="torch")
        rows["reference"] = bench_reference(
            load_anchor_detector(card, config, runtime).detect, frames, options.batches, effort
        )
    rows["decoding alone"] = bench_decoding(jpegs, effort)
    say("  decoding alone", rows["decoding alone"])
    rows["batcher"] = bench_batcher(detector, jpegs, tuning.cap, options.clients, effort)
    say("  batcher, from JPEG", rows["batcher"])
    del detector
    if options.device != "cpu":
        torch.cuda.empty_cache()
    if options.segmenter != "none":
        rows["segmenter"] = bench_segmenter(options, precision, frames, effort)
    rows["http"] = bench_http(jpegs[0], options, precision, effort)
    say("  http, from JPEG", rows["http"])
    return rows


def bench_http(jpeg: bytes, options: argparse.Namespace, precision: str, effort: Effort) -> Row:
    """Return the rate and the latencies of a server in a process of its own, asked by another."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = folder / "picture.jpg"
        picture.write_bytes(jpeg)
        environ = {
            "STRIDE32_PORT": "{port}",
            "STRIDE32_DATA_DIR": str(folder / "data"),
            "STRIDE32_DETECTOR": options.model,
            "STRIDE32_DEVICE": options.device,
            "STRIDE32_PRECISION": precision,
            "STRIDE32_QUEUE_ITEMS": str(2 * max(options.clients, 64)),
            **{f"STRIDE32_{task}": "none" for task in ("SEGMENTER", "CLASSIFIER", "EMBEDDER")},
        }
        command = (python(), "-m", "service")
        with closing(ServerProcess(command, ready_path="/readyz", log=folder / "log", environ=environ)) as server:
            server.wait()
            found = [ask_http(server, picture, options.clients, effort.seconds) for _ in range(effort.repeats)]
    latencies = {
        key: round(float(np.median([each[key] for each in found])), 2) for key in ("p50_ms", "p95_ms", "p99_ms")
    }
    failures = sum(each["failures"] for each in found)
    return {**summary([each["per_s"] for each in found]), "clients": options.clients, **latencies, "failures": failures}


def ask_http(server: ServerProcess, picture: Path, clients: int, seconds: float) -> Row:
    """Return what the load generator measured in one window."""
    command = [python(), str(HERE / "service_load.py"), "--port", str(server.port), "--path", "/v1/detect"]
    command += ["--picture", str(picture), "--concurrency", str(clients), "--seconds", str(seconds)]
    command += ["--pid", str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 120)
    found: Row = json.loads(done.stdout)
    return found


def say(label: str, row: Row) -> None:
    """Print one figure."""
    print(f"{label:28} {row['images_per_s']:9.1f} images/s  ({row['low']:.1f} to {row['high']:.1f})", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="person-lite0")
    parser.add_argument("--segmenter", default="street-fcn8s", help="none leaves its rows out")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script")
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16"], choices=["fp32", "fp16", "bf16"])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCH_BUCKETS))
    parser.add_argument("--long-side", type=int, default=0, help="of the network input, but for http; 0: the model's")
    parser.add_argument("--quick", action="store_true", help="one small size, short windows")
    parser.add_argument("--out", type=Path, help="JSON; results/gpu.json on CUDA, none on the CPU")
    options = parser.parse_args(arguments)
    options.batches = tuple(options.batches)
    if options.quick:
        options.seconds, options.repeats, options.clients = min(options.seconds, 0.3), min(options.repeats, 2), 4
        options.long_side = 128
        options.batches, options.precision = (1, 2), options.precision[:1]
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = parse(arguments)
    if options.device != "cpu" and not torch.cuda.is_available():
        print(
            "bench_gpu needs a CUDA device, found none; --device cpu --quick tries the script itself", file=sys.stderr
        )
        return NO_CUDA
    sizes = dict(list(SIZES_HW.items())[:1]) if options.quick else SIZES_HW
    effort = Effort(options.seconds, options.repeats)
    rows: Row = {}
    for precision in options.precision:
        for name, size_hw in sizes.items():
            print(f"{options.model}, {precision}, pictures of {name}", flush=True)
            rows[f"{precision}, {name}"] = bench_size(size_hw, options, precision, effort)
    out = options.out or (None if options.device == "cpu" else RESULTS)
    if out is not None:
        write(out, options, rows)
    return 0


def write(out: Path, options: argparse.Namespace, rows: Row) -> None:
    """Write the figures with what one must know of the machine."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    machine = describe_machine()
    record = {
        "commit": commit,
        "machine": machine,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": options.device,
        "model": options.model,
        "segmenter": options.segmenter,
        "seconds": options.seconds,
        "rows": rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=2) + "\n")
    print(f"wrote {out}")


if __name__ == "__main__":
    sys.exit(main())
