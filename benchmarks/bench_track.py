"""End-to-end speed and memory of `stride32 track` on a video: decode, detect, embed, associate, draw and encode.

    python benchmarks/bench_track.py VIDEO [--runs 3] [--out FILE]

Each run is a process of its own, as a user starts it; the first one exports the networks and is not counted.
Measured: frames a second from the first frame to the last with all outputs (MOT, JSON lines, annotated video), the
stages' medians from the JSON lines, and the peak memory of a whole run beside that of the first quarter of the video,
which should be alike. The eager torch engine is measured in the same way as the peer.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "track.json"
PACKAGES = ("torch", "onnxruntime", "av", "opencv-python-headless", "supervision", "numpy", "scipy")


def run_once(video: str, *settings: str, max_frames: int | None = None) -> dict[str, Any]:
    """Return frames, frames/s, peak memory in MiB and stage medians in ms of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "vision.cli", "track", video, "--out", folder + "/out"]
        command += [word for setting in settings for word in ("--set", setting)]
        command += [] if max_frames is None else ["--max-frames", str(max_frames)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _, text = process.communicate()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed: {text}")
        found = re.search(r"(\d+) frames in ([\d.]+) s \(([\d.]+) frames/s\)", text)
        if found is None:
            sys.exit(f"no summary in: {text}")
        stages: dict[str, list[float]] = {}
        for line in (Path(folder) / "out" / "results.jsonl").read_text().splitlines()[1:]:
            for name, value in json.loads(line)["timings_ms"].items():
                stages.setdefault(name, []).append(value)
    return {
        "frames": int(found[1]),
        "frames_per_s": float(found[3]),
        "stage_ms": {name: round(statistics.median(values), 2) for name, values in stages.items()},
    }


def peak_memory_mib(video: str, max_frames: int) -> float:
    """Return the peak resident memory of a run, measured in a child of its own so that runs do not mix."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    with tempfile.TemporaryDirectory() as folder:
        track = [
            sys.executable,
            "-m",
            "vision.cli",
            "track",
            video,
            "--out",
            folder + "/out",
            "--max-frames",
            str(max_frames),
        ]
        done = subprocess.run([sys.executable, "-c", code, *track], check=True, capture_output=True, text=True)
    return float(done.stdout)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median run with the spread of its speed."""
    speeds = [run["frames_per_s"] for run in runs]
    middle = sorted(runs, key=lambda run: run["frames_per_s"])[len(runs) // 2]
    return {
        **middle,
        "frames_per_s": statistics.median(speeds),
        "spread": [min(speeds), max(speeds)],
        "runs": len(runs),
    }


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    warm = run_once(arguments.video, max_frames=5)
    del warm
    default = summarise([run_once(arguments.video) for _ in range(arguments.runs)])
    peer = summarise([run_once(arguments.video, "runtime.engine=torch") for _ in range(arguments.runs)])
    quarter = max(20, default["frames"] // 4)
    report = {
        "video": Path(arguments.video).name,
        "default": default,
        "torch_engine": peer,
        "peak_memory_mib": {
            f"first {quarter} frames": round(peak_memory_mib(arguments.video, quarter)),
            f"all {default['frames']} frames": round(peak_memory_mib(arguments.video, default["frames"])),
        },
        "load_before": load,
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        ).stdout.strip(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
