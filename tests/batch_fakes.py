"""A core without networks for the processes of a batch run, and files that kill or hang whoever opens them.

The workers of a run are processes of their own, so nothing can be patched in them from outside: a ``sitecustomize`` on
their path does it when they start. The name of a file says what it does.
"""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vision.batch.items import Item, Shard

# Names: "crash-decode", "hang-decode", "crash-divide", "hang-divide", "crash-infer", "hang-infer",
# "raise-infer"; with "once" only the first time; "slow".
SITECUSTOMIZE = """
import os, signal, sys, time
from pathlib import Path

MARKS = Path(__file__).parent / "marks"

def misbehave(name, stage):
    if "slow" in name:
        time.sleep(0.01)
    for what in ("crash", "hang", "raise"):
        if f"{what}-{stage}" not in name:
            continue
        mark = MARKS / f"{what}-{stage}-{Path(name).name}"
        if "once" in name and mark.exists():
            return
        mark.touch()
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "raise":
            raise RuntimeError("the network does not like this")
        time.sleep(600)

if "vision.batch.decode_worker" in sys.orig_argv:
    import vision.io.images as images
    real = images.read_image
    def read_image(path, **options):
        misbehave(str(path), "decode")
        return real(path, **options)
    images.read_image = read_image

if "vision.batch.divide_worker" in sys.orig_argv:
    import vision.batch.video_parts as video_parts
    really_divide = video_parts.divide_video
    def divide_video(path, chunk, on_packet):
        (MARKS / f"divided-{Path(path).name}").touch()
        misbehave(str(path), "divide")
        return really_divide(path, chunk, on_packet)
    video_parts.divide_video = divide_video

if "vision.batch.infer_worker" in sys.orig_argv:
    import types
    import numpy as np
    from vision.batch.facts import CoreFacts

    class Core:
        def __init__(self, config):
            self.facts = CoreFacts(
                task=config.task, config=config, models={"detection": {"name": "fake", "sha256": "0" * 64}},
                class_names=("thing",), batch=config.batch or 1, parallel=2 if config.task != "track" else 1,
            )
            self.seen = {}

        def rows(self, works):
            for work in works:
                misbehave(work.path, "infer")
            return [self.row(work, len(works)) for work in works]

        def row(self, work, company):
            mean = float(work.frame.image.mean())
            self.seen[work.stream] = self.seen.get(work.stream, 0) + 1
            box = np.float32([[0, 0, mean, mean + self.seen[work.stream] * (self.facts.task == "track")]])
            found = {"boxes": box, "scores": np.float32([company / 100]), "labels": np.zeros(1, np.int64)}
            return work.head() | found | ({"track_ids": np.ones(1, np.int64)} if self.facts.task == "track" else {})

        def forget(self, stream):
            self.seen.pop(stream, None)

    fake = types.ModuleType("vision.batch.core")
    fake.open_core = lambda config, device=None, threads=0: Core(config)
    sys.modules["vision.batch.core"] = fake
"""


@pytest.fixture
def fake_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the processes of batch runs use the fake core; returns the folder of their marks."""
    folder = tmp_path / "site"
    (folder / "marks").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    monkeypatch.syspath_prepend(folder)
    return folder / "marks"


def write_pictures(folder: Path, names: list[str]) -> list[Path]:
    """Write a small picture of its own grey for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        size_hw = (24, 32) if number % 3 else (40, 20)
        assert cv2.imwrite(str(folder / name), np.full((*size_hw, 3), number % 256, np.uint8))
    return [folder / name for name in names]


def write_video(path: Path, frames: int) -> Path:
    """Write a video whose frames grow brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), number * 5 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def shards_of(paths: list[Path], size: int) -> list[Shard]:
    """Return shards of so many files, videos by their suffix."""
    items = [
        Item(index, path.name, str(path), "video" if path.suffix == ".mp4" else "image")
        for index, path in enumerate(paths)
    ]
    return [Shard(start // size, tuple(items[start : start + size]), "0") for start in range(0, len(items), size)]
