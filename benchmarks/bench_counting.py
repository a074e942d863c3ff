"""Milliseconds a frame that counters add to tracking, by tracks in the frame and counters in the file.

    python benchmarks/bench_counting.py

Tracks walk at random through a 1080p frame and leave at its border, so that lines are crossed and ids are new. Prints
the median and the slowest percentile of 2000 frames, as JSON lines; measure on an idle core.
"""

from __future__ import annotations

import json
import time

import numpy as np

from vision.analytics.counting import Counting
from vision.analytics.spec import parse_spec

SIZE_WH = np.array([1920.0, 1080.0])
FRAMES = 2000


def build(lines: int, zones: int) -> Counting:
    """Return that many lines and ten-cornered zones, spread over the frame."""
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    shape = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    spec = {
        "lines": [
            {"name": f"line {i}", "from": [200, 100 + 150 * i], "to": [1700, 300 + 120 * i]} for i in range(lines)
        ],
        "zones": [
            {"name": f"zone {i}", "polygon": (shape * 200 + [300 + 400 * i, 540]).tolist()} for i in range(zones)
        ],
    }
    return Counting(parse_spec(spec))


def measure(tracks: int, lines: int, zones: int) -> dict[str, float]:
    """Return the time of ``Counting.update`` over a random walk, and the events that it found."""
    rng = np.random.default_rng(tracks)
    counting = build(lines, zones)
    points, speeds = rng.uniform(0, 1, (tracks, 2)) * SIZE_WH, rng.normal(0, 6, (tracks, 2))
    ids = np.arange(tracks)
    labels, next_id, times_ms, events = np.zeros(tracks, np.int64), tracks, [], 0
    for frame in range(FRAMES):
        points += speeds + rng.normal(0, 1, points.shape)
        left = ((points < 0) | (points > SIZE_WH)).any(axis=1)
        count = int(left.sum())
        points[left] = rng.uniform(0, 1, (count, 2)) * SIZE_WH
        ids[left], next_id = np.arange(next_id, next_id + count), next_id + count
        boxes = np.concatenate([points - np.array([20, 100]), points + np.array([20, 0])], axis=1).astype(np.float32)
        start = time.perf_counter()
        events += len(counting.update(frame, frame / 25, ids.copy(), boxes, labels))
        times_ms.append((time.perf_counter() - start) * 1e3)
    return {
        "tracks": tracks,
        "lines": lines,
        "zones": zones,
        "median_ms": round(float(np.median(times_ms)), 3),
        "p99_ms": round(float(np.percentile(times_ms, 99)), 3),
        "events": events,
    }


if __name__ == "__main__":
    for tracks in (10, 50, 200):
        for lines, zones in ((1, 0), (0, 1), (2, 2)):
            print(json.dumps(measure(tracks, lines, zones)))
