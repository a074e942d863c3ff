"""The service beside LitServe and beside no server at all: requests a second, latency, processor time, memory.

    python benchmarks/bench_service.py [--rounds 5] [--seconds 5] [--quick] [--out FILE]

Each server runs in its own process with its defaults, the load generator in another (service_load.py: closed loop,
keep-alive, concurrency 1, 8 and 32, the raw JPEG as body). Rows:

    null                 our service with a model that answers at once; a picture is decoded for each request
    null, no decoding    the same without decoding: what HTTP, queue, threads, metrics, log and JSON cost
    detector             our service with the default detector
    LitServe, batch 8    LitServe with the same detector, max_batch_size=8, one worker
    LitServe, workers    LitServe as its documentation advises for CPUs: a worker a core, one thread each
    bare                 no server: decode and detect in a loop ("sequence"); decoding in a thread beside ("overlapped")

All rows are measured in turns, round after round, while the servers that are not asked are frozen. Figures are medians
over the rounds with the smallest and largest; ratios are made within a round, so that a slower hour of the machine
changes both sides. The processor time of a request is that of the server's whole process tree. What a request costs
over decoding is the null model's less the bare decoding of the same picture. Writes benchmarks/results/service.json, of
which service_report.py makes a table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from service_processes import ServerProcess, memory_mb, python
from service_report import (
    CONCURRENCIES,
    DETECTOR,
    LIT_BATCH,
    LIT_WORKERS,
    NULL,
    NULL_BARE,
    RESULTS,
    TARGETS,
    Figures,
    Rounds,
    print_table,
    summarise,
)

from vision.bench.machine import describe_machine

HERE = Path(__file__).parent
PHOTOGRAPH = HERE.parent / "docs" / "images" / "demo.jpg"
PICTURE_WH, QUALITY = (640, 480), 90
PACKAGES = ("fastapi", "starlette", "uvicorn", "uvloop", "httptools", "litserve")


@dataclass(frozen=True)
class Contestant:
    """A server of the comparison: how it starts, and where it is asked."""

    command: tuple[str, ...]
    ready_path: str
    path: str
    environ: Mapping[str, str]


def contestants(folder: Path) -> dict[str, Contestant]:
    """Return all servers by the name of their row; each of ours has a data folder of its own below ``folder``."""
    service = {
        "STRIDE32_PORT": "{port}",
        "STRIDE32_DATA_DIR": str(folder / "data-{port}"),
        "STRIDE32_SEGMENTER": "none",
        "STRIDE32_CLASSIFIER": "none",
        "STRIDE32_EMBEDDER": "none",
    }
    cores = len(os.sched_getaffinity(0))
    null = (python(), str(HERE / "service_peers.py"), "null")
    lit = (python(), str(HERE / "service_litserve.py"), "--port", "{port}")
    return {
        NULL: Contestant(null, "/readyz", "/v1/detect", service),
        NULL_BARE: Contestant((*null, "--no-decode"), "/readyz", "/v1/detect", service),
        DETECTOR: Contestant((python(), "-m", "service"), "/readyz", "/v1/detect", service),
        LIT_BATCH: Contestant((*lit, "--batch", "8"), "/health", "/predict", {}),
        LIT_WORKERS: Contestant((*lit, "--workers", str(cores), "--threads", "1"), "/health", "/predict", {}),
    }


class BareLoop:
    """The process without a server; see service_peers.py."""

    def __init__(self, picture: Path, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [python(), str(HERE / "service_peers.py"), "bare", "--picture", str(picture)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.facts = self._read()
        self.pid = self._process.pid

    def measure(self, name: str, seconds: float) -> Figures:
        """Run decode, sequence or overlapped for so long."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {seconds}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the bare loop ended; its reason is in the log")
        found: Figures = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def write_picture(path: Path) -> str:
    """Write the picture that every request carries, and return it in words."""
    import cv2
    import numpy as np

    image = cv2.imdecode(np.frombuffer(PHOTOGRAPH.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(image, PICTURE_WH, interpolation=cv2.INTER_AREA)
    body = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    path.write_bytes(body)
    width, height = PICTURE_WH
    return f"{PHOTOGRAPH.name} at {width} x {height}, JPEG of quality {QUALITY}, {len(body)} bytes"


def ask(server: ServerProcess, path: str, picture: Path, concurrency: int, seconds: float) -> Figures:
    """Return what the load generator measured."""
    command = [python(), str(HERE / "service_load.py"), "--port", str(server.port), "--path", path]
    command += ["--picture", str(picture), "--concurrency", str(concurrency), "--seconds", str(seconds)]
    command += ["--pid", str(server.pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 300)
    if done.returncode:
        raise RuntimeError(f"the load generator failed:\n{done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout)
    return found


def run_rounds(
    rounds: Rounds, servers: Mapping[str, ServerProcess], bare: BareLoop, options: argparse.Namespace
) -> None:
    """Measure everything ``options.rounds`` times."""
    paths = {name: each.path for name, each in contestants(Path()).items()}
    for number in range(options.rounds):
        print(f"-- round {number + 1} of {options.rounds}", flush=True)
        rounds.add("decode", 1, bare.measure("decode", options.seconds / 2))
        for concurrency in CONCURRENCIES:
            for name in ("sequence", "overlapped"):
                rounds.add(f"bare, {name}", concurrency, bare.measure(name, options.seconds))
            for name, server in servers.items():
                server.thaw()
                found = ask(server, paths[name], options.picture, concurrency, options.seconds)
                server.freeze()
                check_answer(name, found, bare.facts["detections"])
                rounds.add(name, concurrency, found)


def check_answer(name: str, found: Figures, expected: int) -> None:
    """Raise RuntimeError where a server did not do the work: speed without answers is no speed."""
    detections = len(json.loads(found.pop("sample"))["detections"])
    wanted = 0 if name in (NULL, NULL_BARE) else expected
    if found["failures"] or detections != wanted:
        raise RuntimeError(f"{name}: {found['failures']} failures; {detections} detections in place of {wanted}")


def main() -> int:
    """Measure everything and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="servers to measure; all without it, prints only")
    parser.add_argument("--quick", action="store_true", help="one short round, prints only: to see that it runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 1.0
    before = describe_machine()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        options.picture = Path(folder, "picture.jpg")
        picture = write_picture(options.picture)
        log = Path(folder, "servers.log")
        bare = stack.enter_context(closing(BareLoop(options.picture, log)))
        servers: dict[str, ServerProcess] = {}
        for name, each in contestants(Path(folder)).items():
            if options.only is None or name in options.only:
                server = ServerProcess(each.command, ready_path=each.ready_path, log=log, environ=each.environ)
                stack.callback(server.close)
                servers[name] = server.wait()
                server.freeze()
        rounds = Rounds()
        run_rounds(rounds, servers, bare, options)
        memory = {name: memory_mb(server.pid) for name, server in servers.items()} | {"bare": memory_mb(bare.pid)}
    if options.only is not None:
        return 0
    summary = summarise(rounds)
    print_table(summary, memory)
    if options.quick:
        return 0
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    record = {
        "commit": commit.stdout.strip(),
        "machine": before,
        "load_after": describe_machine()["load"],
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "picture": picture,
        "engine": bare.facts["engine"],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "figures": "median, smallest, largest over the rounds",
        "targets": TARGETS,
        "memory_mb": memory,
        **summary,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
