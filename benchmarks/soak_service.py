"""The service under mixed traffic for minutes: nothing lost, nothing swapped, no growth, no error that is its own.

    python benchmarks/soak_service.py [--minutes 10] [--out FILE]

A server of its own (detector, no other models, a short queue) gets good pictures whose right answers are known from
the library, slow and aborted and oversize requests, broken ones, deadlines that cannot be kept, tracking sessions, and
at times a video job, a reload of the model, and a burst of four times what its queue holds. Fails when

- an answer is missing, of another picture, or of another status than it must be (5xx never, except the 504 asked for);
- a good picture directly after a burst is not answered, or takes longer than AFTER_BURST_S;
- the resident memory (sampled every second) at the end is more than GROWTH_MB above that after the warm-up: medians
  of the last and of the first fifth of the samples behind the first quarter of the time. A minute of warm-up goes
  before it, with the rare things one after the other;
- requests, bytes or sessions are left in the server's own counts when nobody asks any more, or SIGTERM does not end it
  with 0.

Writes benchmarks/results/soak.json with the outcomes, and the memory over time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from service_processes import ServerProcess, memory_mb, python
from soak_http import spread
from soak_traffic import Traffic, make_pictures

from vision.bench.machine import describe_machine

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "soak.json"
PHOTOGRAPH = HERE.parent / "docs" / "images" / "demo.jpg"
CLIENTS = 6
QUEUE_ITEMS, MAX_BODY = 32, 2 << 20
# Above the noise of allocators, below what a leak of one decoded picture in a thousand requests would make of an hour.
GROWTH_MB = 40.0
WARM_UP_S, WARM_UP_SHARE = 60.0, 0.25
AFTER_BURST_S = 5.0
BURST_EVERY_S, RELOAD_EVERY_S, JOB_EVERY_S = 20.0, 45.0, 60.0
POINTS = 100
# How often each kind comes, in a hundred requests.
KINDS = {"good": 66, "bad": 12, "slow": 6, "aborted": 8, "oversize": 3, "deadline": 3, "session": 2}


async def client(traffic: Traffic, end: float, seed: int) -> None:
    """Ask one thing after the other until the end."""
    choice = random.Random(seed)
    works = {kind: getattr(traffic, kind) for kind in KINDS}
    while time.monotonic() < end:
        kind = choice.choices(list(KINDS), list(KINDS.values()))[0]
        await traffic.run(kind, works[kind])


async def every(seconds: float, traffic: Traffic, kind: str, end: float) -> None:
    """Do one thing at intervals, the first time after a fifth of one."""
    await asyncio.sleep(seconds / 5)
    while (began := time.monotonic()) < end:
        await traffic.run(kind, getattr(traffic, kind))
        await asyncio.sleep(max(0.0, min(began + seconds, end) - time.monotonic()))


async def sample(pid: int, end: float, began: float, series: list[tuple[float, float]]) -> None:
    """Write down the resident memory every second."""
    while (now := time.monotonic()) < end:
        series.append((round(now - began, 1), memory_mb(pid)["rss"]))
        await asyncio.sleep(1.0)


async def warm_up(traffic: Traffic) -> None:
    """Do the rare things several times at once with the rest, so that every allocator has been as full as it gets.

    Threads of jobs, two models side by side during a reload, and bodies of a burst each leave memory with the
    allocator, which keeps it for the next time; what grows after that is a leak.
    """
    end = time.monotonic() + WARM_UP_S
    clients = [asyncio.ensure_future(client(traffic, end, 100 + seed)) for seed in range(CLIENTS)]
    while time.monotonic() < end:
        for kind in ("reload", "burst", "reload", "job"):
            await traffic.run(kind, getattr(traffic, kind))
    await asyncio.gather(*clients)


async def soak(traffic: Traffic, pid: int, seconds: float) -> list[tuple[float, float]]:
    """Do all of it at the same time and return the memory over time: seconds, MB."""
    await warm_up(traffic)
    series: list[tuple[float, float]] = []
    began = time.monotonic()
    end = began + seconds
    await asyncio.gather(
        *(client(traffic, end, seed) for seed in range(CLIENTS)),
        every(BURST_EVERY_S, traffic, "burst", end),
        every(RELOAD_EVERY_S, traffic, "reload", end),
        every(JOB_EVERY_S, traffic, "job", end),
        sample(pid, end, began, series),
    )
    return series


def growth_mb(series: Sequence[tuple[float, float]]) -> float:
    """Return how much more memory the end takes than the time after the warm-up."""
    values = [value for _, value in series[round(WARM_UP_SHARE * len(series)) :]]
    fifth = max(1, len(values) // 5)
    return round(median(values[-fifth:]) - median(values[:fifth]), 1)


def left_behind(port: int) -> list[str]:
    """Return what the server still holds when nobody asks, after a moment for what was given up."""
    end = time.monotonic() + 10
    while True:
        stats = get_json(port, "/v1/stats")
        held = {"in_flight": stats["in_flight"], "sessions": stats["sessions"], **stats["jobs"]}
        held |= {f"queue of {model['name']}": model["queue_items"] for model in stats["models"]}
        held["queue bytes"] = queue_bytes(port)
        left = [f"{name}: {value}" for name, value in held.items() if value]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.5)


def get_json(port: int, path: str) -> Any:
    """Return the JSON of a path."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return json.load(answer)


def queue_bytes(port: int) -> float:
    """Return the bytes that requests hold, as the metrics say."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("stride32_queue_bytes "))


def verdict(
    traffic: Traffic, series: Sequence[tuple[float, float]], left: Sequence[str], code: int | None
) -> list[str]:
    """Return all that is wrong."""
    wrong = list(traffic.failures)
    if (grown := growth_mb(series)) > GROWTH_MB:
        wrong.append(f"resident memory grew by {grown} MB after the warm-up, at most {GROWTH_MB} are allowed")
    if max(traffic.seconds["after a burst"], default=0.0) > AFTER_BURST_S:
        wrong.append(f"a picture after a burst took {max(traffic.seconds['after a burst']):.1f} s")
    if not traffic.outcomes["in a burst: 429"]:
        wrong.append("no burst was larger than the queue; nothing was shown")
    wrong += [f"left behind: {each}" for each in left]
    if code != 0:
        wrong.append(f"SIGTERM ended the server with {code}")
    return wrong


def main() -> int:
    """Run the soak and write the JSON; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    before = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "STRIDE32_PORT": "{port}",
            "STRIDE32_DATA_DIR": str(Path(folder, "data")),
            "STRIDE32_QUEUE_ITEMS": str(QUEUE_ITEMS),
            "STRIDE32_MAX_BODY_BYTES": str(MAX_BODY),
            **{f"STRIDE32_{kind}": "none" for kind in ("SEGMENTER", "CLASSIFIER", "EMBEDDER")},
        }
        server = ServerProcess(
            (python(), "-m", "service"), ready_path="/readyz", log=Path(folder, "server.log"), environ=environ
        )
        try:
            server.wait()
            pictures = make_pictures(PHOTOGRAPH.read_bytes())
            traffic = Traffic(server.port, pictures, max_body=MAX_BODY, queue_items=QUEUE_ITEMS, seed=args.seed)
            series = asyncio.run(soak(traffic, server.pid, 60 * args.minutes))
            ended = server.process.poll()
            left = left_behind(server.port) if ended is None else [f"nothing: the server ended by itself with {ended}"]
            memory = memory_mb(server.pid)
        finally:
            code = server.close()
        tail = server.log.read_text(errors="replace").splitlines()
        errors = [line[-600:] for line in tail if '"level":"error"' in line][:20]
        if ended is not None:
            errors += tail[-20:]
    wrong = verdict(traffic, series, left, code)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    step = max(1, -(-len(series) // POINTS))
    record = {
        "commit": commit.stdout.strip(),
        "machine": before,
        "load_after": describe_machine()["load"],
        "minutes": args.minutes,
        "warm_up_s": WARM_UP_S,
        "clients": CLIENTS,
        "queue_items": QUEUE_ITEMS,
        "requests": sum(traffic.outcomes.values()),
        "outcomes": dict(sorted(traffic.outcomes.items())),
        "times": {kind: spread(values) for kind, values in sorted(traffic.seconds.items())},
        "growth_mb": growth_mb(series),
        "growth_allowed_mb": GROWTH_MB,
        "memory_mb": memory,
        "rss_mb_over_s": series[::step],
        "wrong": wrong[:50],
        "logged_errors": errors,
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({key: record[key] for key in ("requests", "outcomes", "times", "growth_mb")}, indent=1))
    print("\n".join(wrong[:50]) or "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
