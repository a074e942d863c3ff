"""Small batch jobs for tests: inputs that nobody reads, rows that nobody computed, and a list of inputs in JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import pytest

from vision.batch.config import BatchConfig, Task
from vision.batch.items import Failure, FrameRange, Item, Shard
from vision.batch.job import Job, open_job
from vision.batch.output import Output
from vision.batch.shard_file import ShardWriter
from vision.batch.shard_summary import ShardSummary
from vision.geometry.rle import encode_classes

CLASS_NAMES = ("person", "Fußgänger ☂")
MODELS = {"detection": {"name": "person-lite0", "sha256": "ab" * 32}}
DIM = 6


@dataclass(frozen=True)
class FakeManifest:
    """What the job's code asks of a list of inputs."""

    shards: tuple[Shard, ...]

    @property
    def n_items(self) -> int:
        return sum(len(shard.items) for shard in self.shards)

    @property
    def n_shards(self) -> int:
        return len(self.shards)

    @property
    def digest(self) -> str:
        return "+".join(shard.digest for shard in self.shards)

    def shard(self, index: int) -> Shard:
        return self.shards[index]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps([asdict(shard) for shard in self.shards]))

    @classmethod
    def open(cls, file: BinaryIO) -> FakeManifest:
        return cls(tuple(_to_shard(shard) for shard in json.load(file)))


def differences(old: FakeManifest, new: FakeManifest, limit: int = 5) -> list[str]:
    names = [{item.name for shard in manifest.shards for item in shard.items} for manifest in (old, new)]
    return [f"{name} is gone" for name in sorted(names[0] - names[1])][:limit]


def _to_shard(content: dict[str, Any]) -> Shard:
    items = [{**item, "frames": item["frames"] and FrameRange(**item["frames"])} for item in content["items"]]
    return Shard(content["index"], tuple(Item(**item) for item in items), content["digest"])


def install_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vision.batch.manifest")
    module.Manifest, module.differences = FakeManifest, differences  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vision.batch.manifest", module)


def make_manifest(n_items: int = 12, shard_size: int = 5, videos: Collection[int] = (), prefix: str = "é x/") -> Any:
    items = [
        Item(i, f"{prefix}{i:03d}.{'mp4' if i in videos else 'jpg'}", f"/in/{i}", "video" if i in videos else "image")
        for i in range(n_items)
    ]
    groups = [items[start : start + shard_size] for start in range(0, n_items, shard_size)]
    return FakeManifest(tuple(Shard(i, tuple(group), f"{prefix}{i}-{len(group)}") for i, group in enumerate(groups)))


def make_rows(task: str, item: Item, *, regression: bool = False) -> list[dict[str, Any]]:
    """Return a row of a picture, or three of a video; the same ones each time."""
    frames = 3 if item.kind == "video" else 1
    return [_make_row(task, item, frame, regression) for frame in range(frames)]


def _make_row(task: str, item: Item, frame: int, regression: bool) -> dict[str, Any]:
    random = np.random.default_rng([item.index, frame])
    n = (item.index + frame) % 4
    row: dict[str, Any] = {
        "item": item.index,
        "path": item.name,
        "frame_index": frame,
        "timestamp_s": frame / 25 if item.kind == "video" else None,
        "height": 6,
        "width": 8,
    }
    corner = random.random((n, 2)).astype(np.float32) * 4
    boxes = {
        "boxes": np.concatenate([corner, corner + random.random((n, 2)).astype(np.float32) * 2], axis=1),
        "scores": random.random(n).astype(np.float32),
        "labels": random.integers(0, 3, n),
    }
    labels, areas, counts = encode_classes(random.integers(0, 3, (6, 8)))
    order = random.permutation(3)
    own: dict[str, Callable[[], dict[str, Any]]] = {
        "detect": lambda: boxes,
        "track": lambda: boxes | {"track_ids": np.arange(1, n + 1)},
        "segment": lambda: {"mask_labels": labels, "mask_areas": areas, "mask_counts": counts},
        "embed": lambda: {"embedding": random.random(DIM).astype(np.float32)},
        "classify": lambda: (
            {"value": float(random.random()), "unit": "cm"}
            if regression
            else {
                "labels": order,
                "scores": random.random(3).astype(np.float32),
                "names": tuple(f"class {label}" for label in order),
                "assigned": 1,
            }
        ),
    }
    return row | own[task]()


def begin_job(
    output: Output, task: Task = "detect", manifest: Any = None, *, resume: bool = False, **config: Any
) -> Job:
    return open_job(
        output,
        config=BatchConfig(task=task, **config),
        models=MODELS,
        manifest=manifest or make_manifest(),
        source="pictures",
        resume=resume,
    )


def write_shard(job: Job, index: int, *, failed: Collection[int] = (), regression: bool = False) -> ShardSummary:
    task = job.record.task
    header = job.header(class_names=CLASS_NAMES, dim=DIM if task == "embed" else 0, unit="cm" if regression else None)
    shard = job.manifest.shard(index)
    writer = ShardWriter(job.output, shard, header)
    for item in shard.items:
        if item.index in failed:
            writer.fail(Failure(item.index, item.name, "decode", "cut\nshort", tries=2))
        else:
            writer.add(make_rows(task, item, regression=regression))
    return writer.commit()


def write_job(
    output: Output,
    task: Task = "detect",
    *,
    manifest: Any = None,
    failed: Collection[int] = (),
    shards: Sequence[int] | None = None,
    regression: bool = False,
) -> Job:
    """Begin a job and write all its shards, or those that are named."""
    job = begin_job(output, task, manifest)
    for index in job.pending() if shards is None else shards:
        write_shard(job, index, failed=failed, regression=regression)
    return job
