"""Measure camera-motion compensation: its error in pixels, what it gains the tracker, and what it costs.

    python benchmarks/eval_camera_motion.py DATA

DATA holds SEQ/{img1, gt/gt.txt, seqinfo.ini, det_sort/det.txt} in MOTChallenge layout, filmed by a still camera (the
TUD sequences). A window of three quarters of the picture moves over the frames along a path that is known exactly, and
ground truth and detections move alike: a real scene seen by a camera that pans, shakes or rolls. ``truth`` gives the
tracker the exact motion, the most that an estimate could gain. No appearance: motion and overlap alone.

Writes benchmarks/results/camera_motion.json (``--out``).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vision.evaluation.tracking import evaluate_mot, read_ground_truth
from vision.geometry.boxes import box_area, clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from vision.io.images import read_image
from vision.tracking.camera_motion import CameraMotion
from vision.tracking.config import PRESETS, TrackerConfig
from vision.tracking.tracker import Tracker
from vision.types import Detections

RESULTS = Path(__file__).parent / "results" / "camera_motion.json"
Array = npt.NDArray[Any]

CAMERAS = ("none", "flow", "ecc", "truth")
TRACKERS = ("sort", "deepsort", "bytetrack", "ocsort")
SIZES_WH = ((640, 480), (1280, 720), (1920, 1080))
WINDOW = 0.75
# An object counts where at least this share of its box is in the window.
MIN_VISIBLE = 0.5
SCORES = ("HOTA", "AssA", "MOTA", "IDF1", "IDSW")


def camera_paths(length: int, margin: Array) -> dict[str, Array]:
    """Return name -> [length, 3]: offset (x, y) from the picture's centre in pixels, and the roll in radians.

    ``margin`` (x, y) is how far the window can move to each side.
    """
    t = np.arange(length)
    rng = np.random.default_rng(0)
    still = np.zeros((length, 3))
    pan = np.column_stack([margin[0] * np.sin(2 * np.pi * t / 40), 0.5 * margin[1] * np.sin(2 * np.pi * t / 29), 0 * t])
    # A camera in the hand: each frame lies elsewhere, as far apart as people walk in several frames.
    shake = np.column_stack([rng.normal(0, 0.15, (length, 2)).clip(-1, 1) * margin, rng.normal(0, 0.01, length)])
    # Still, then a swing within four frames, then still: where a filter of constant velocity is most wrong.
    swings = np.clip((t % 25) - 20, 0, 4) / 4 + t // 25
    swing = np.column_stack([margin[0] * (1 - np.abs(swings % 4 - 2)), 0 * t, 0 * t])
    roll = np.column_stack([0 * t, 0 * t, np.radians(6) * np.sin(2 * np.pi * t / 30)])
    return {"still": still, "pan": pan, "shake": shake, "swing": swing, "roll": roll}


def window_matrices(path: Array, picture_wh: Array, window_wh: Array) -> Array:
    """Return [length, 3, 3], which map positions in the picture to positions in the window of each frame."""
    matrices = np.tile(np.eye(3), (len(path), 1, 1))
    for matrix, (x, y, roll) in zip(matrices, path, strict=True):
        turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
        centre = picture_wh / 2 + (x, y)
        matrix[:2, :2] = turn
        matrix[:2, 2] = window_wh / 2 - turn @ centre
    return matrices


def see(image: Array, matrix: Array, window_wh: Array) -> Array:
    """Return the window's picture; OpenCV counts from pixel centres, we from the corner of the first pixel."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = np.linalg.inv(half) @ matrix @ half
    width, height = (int(side) for side in window_wh)
    return np.asarray(
        cv2.warpAffine(image, centred[:2], (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )


def move_rows(table: Array, matrices: Array, window_wh: Array) -> Array:
    """Return MOTChallenge rows as the window sees them: boxes moved by their centres, cut, or dropped outside."""
    boxes = xywh_to_xyxy(table[:, 2:6])
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    own = matrices[table[:, 0].astype(int) - 1]
    centre = np.einsum("nij,nj->ni", own[:, :2, :2], centre) + own[:, :2, 2]
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    cut = clip_boxes(boxes, (int(window_wh[1]), int(window_wh[0])))
    seen = box_area(cut) >= MIN_VISIBLE * box_area(boxes)
    moved = table.copy()
    moved[:, 2:6] = xyxy_to_xywh(cut)
    return moved[seen]


@dataclass(frozen=True)
class Scene:
    """A sequence as one moving window sees it."""

    name: str
    pictures: list[Array]
    truth: Array
    detections: list[Detections]
    motions: list[Array | None]
    """What maps the last frame to each frame, [2, 3]; None for the first."""


def make_scenes(sequence: Path, paths: list[str]) -> Iterator[tuple[str, Scene]]:
    """Yield the sequence along each camera path."""
    files = sorted((sequence / "img1").iterdir())
    frames = [np.asarray(read_image(file).image) for file in files]
    picture_wh = np.array([frames[0].shape[1], frames[0].shape[0]])
    window_wh = np.round(picture_wh * WINDOW)
    truth = read_ground_truth(sequence / "gt" / "gt.txt").rows
    found = np.loadtxt(sequence / "det_sort" / "det.txt", delimiter=",", ndmin=2)
    for name, path in camera_paths(len(frames), (picture_wh - window_wh) / 2).items():
        if paths and name not in paths:
            continue
        matrices = window_matrices(path, picture_wh, window_wh)
        moved = move_rows(found, matrices, window_wh)
        rows = [moved[moved[:, 0] == number] for number in range(1, len(frames) + 1)]
        steps = [None, *((new @ np.linalg.inv(old))[:2] for old, new in pairwise(matrices))]
        yield (
            name,
            Scene(
                sequence.name,
                [see(frame, matrix, window_wh) for frame, matrix in zip(frames, matrices, strict=True)],
                move_rows(truth, matrices, window_wh),
                [Detections(xywh_to_xyxy(row[:, 2:6]), row[:, 6], np.zeros(len(row), np.int64)) for row in rows],
                steps,
            ),
        )


def estimate(scene: Scene, method: str) -> tuple[list[Array | None], dict[str, Any]]:
    """Return the estimated motion of each frame, with its error at the corners and its cost."""
    if method in ("none", "truth"):
        return ([None] * len(scene.pictures) if method == "none" else scene.motions), {}
    camera = CameraMotion(method)  # type: ignore[arg-type]
    motions, times_ms, errors = [], [], []
    height, width = scene.pictures[0].shape[:2]
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    for picture, detections, truth in zip(scene.pictures, scene.detections, scene.motions, strict=True):
        start = time.process_time()
        motion = camera.estimate(picture, detections.boxes)
        times_ms.append(1e3 * (time.process_time() - start))
        motions.append(motion)
        if truth is not None:
            errors.append(np.linalg.norm((motion - truth) @ corners, axis=0).max())
    facts = {
        "error_px": {"median": np.median(errors), "p95": np.percentile(errors, 95), "max": max(errors)},
        "cpu_ms": np.median(times_ms[1:]),
        "failures": {str(failure): count for failure, count in camera.failures.items()},
    }
    return list(motions), facts


def track(scene: Scene, motions: list[Array | None], config: TrackerConfig) -> str:
    """Return the MOTChallenge rows of the tracks."""
    tracker = Tracker(config)
    rows = []
    for index, (detections, motion) in enumerate(zip(scene.detections, motions, strict=True)):
        tracks = tracker.update(detections, frame_index=index, camera_motion=motion)
        for identity, box, score in zip(tracks.ids, xyxy_to_xywh(tracks.boxes), tracks.scores, strict=True):
            numbers = ",".join(f"{value:.3f}" for value in box)
            rows.append(f"{index + 1},{identity},{numbers},{score:.4f},-1,-1,-1\n")
    return "".join(rows)


def evaluate(scenes: list[Scene], tracks: list[str]) -> dict[str, float]:
    """Return the scores of all scenes together."""
    with tempfile.TemporaryDirectory() as folder:
        truths, results = {}, {}
        for scene, rows in zip(scenes, tracks, strict=True):
            truth = Path(folder) / scene.name / "gt" / "gt.txt"
            truth.parent.mkdir(parents=True)
            columns = np.column_stack([scene.truth[:, :7], np.full((len(scene.truth), 3), -1)])
            np.savetxt(truth, columns, fmt="%d,%d,%.3f,%.3f,%.3f,%.3f,%d,%d,%d,%d")
            (truth.parents[1] / "seqinfo.ini").write_text(f"[Sequence]\nseqLength={len(scene.pictures)}\n")
            results[scene.name] = Path(folder) / f"{scene.name}.txt"
            results[scene.name].write_text(rows)
            truths[scene.name] = truth
        scores = evaluate_mot(truths, results)["combined"]
    return {name: scores[name] for name in SCORES}


def measure_cost(scene: Scene) -> dict[str, dict[str, float]]:
    """Return CPU milliseconds a frame of each method at several picture sizes, one thread."""
    costs: dict[str, dict[str, float]] = {}
    for width, height in SIZES_WH:
        pictures = [cv2.resize(picture, (width, height)) for picture in scene.pictures[:40]]
        costs[f"{width}x{height}"] = {}
        for method in ("flow", "ecc"):
            camera, times_ms = CameraMotion(method), []  # type: ignore[arg-type]
            for picture in pictures:
                start = time.process_time()
                camera.estimate(picture)
                times_ms.append(1e3 * (time.process_time() - start))
            costs[f"{width}x{height}"][method] = float(np.median(times_ms[1:]))
    return costs


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--paths", nargs="*", default=[], help="camera paths; all by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    by_path: dict[str, list[Scene]] = {}
    for truth in sorted(args.data.glob("*/gt/gt.txt")):
        for name, scene in make_scenes(truth.parents[1], args.paths):
            by_path.setdefault(name, []).append(scene)
    results: dict[str, Any] = {"estimate": {}, "tracking": {}}
    for name, scenes in by_path.items():
        for method in CAMERAS:
            estimates = [estimate(scene, method) for scene in scenes]
            if method in ("flow", "ecc"):
                facts = {scene.name: fact for scene, (_, fact) in zip(scenes, estimates, strict=True)}
                results["estimate"].setdefault(name, {})[method] = facts
                print(name, method, json.dumps(facts, default=lambda value: round(float(value), 2)))
            for preset in TRACKERS:
                config = dataclasses.replace(PRESETS[preset], appearance=False, high_conf=0.3, birth_conf=0.3)
                tracks = [track(scene, motions, config) for scene, (motions, _) in zip(scenes, estimates, strict=True)]
                scores = evaluate(scenes, tracks)
                results["tracking"].setdefault(name, {}).setdefault(preset, {})[method] = scores
                print(
                    f"{name:6} {preset:10} {method:6}", " ".join(f"{k} {v:6.2f}" for k, v in scores.items()), flush=True
                )
    results["cpu_ms"] = measure_cost(next(iter(by_path.values()))[-1])
    print(json.dumps(results["cpu_ms"]))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    results |= {"commit": commit.stdout.strip(), "python": platform.python_version(), "opencv": cv2.__version__}
    results |= {"numpy": np.__version__, "threads": 1, "machine": platform.machine()}
    text = json.dumps(results, indent=1, default=float)
    args.out.write_text(json.dumps(_rounded(json.loads(text)), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
