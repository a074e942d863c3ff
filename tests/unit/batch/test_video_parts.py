"""Which videos are divided, and where."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from io_media import steady, write_clip

from vision.batch.config import BatchConfig
from vision.batch.listing import list_inputs
from vision.batch.video_parts import _cut, divide_video

GROUPS = {"x264-params": "keyint=10:min-keyint=10:scenecut=0"}


@pytest.mark.parametrize(
    ("n_frames", "keys", "chunk", "cuts"),
    [
        (100, range(0, 100, 10), 30, [0, 30, 60]),
        (100, range(0, 100, 12), 30, [0, 24, 60]),
        (44, range(0, 44, 10), 30, None),
        (45, range(0, 45, 10), 30, [0, 30]),
        (100, [0, 50], 10, [0, 50]),
        (100, [0], 10, None),
        (100, range(100), 33, [0, 33, 66]),
        (100, [0, 99], 33, None),
    ],
)
def test_cuts_are_at_key_frames_near_the_multiples(n_frames: int, keys: range, chunk: int, cuts: list[int]) -> None:
    pts = np.arange(n_frames, dtype=np.int64) * 100 + 7
    parts = _cut(pts, pts[list(keys)], chunk)
    assert (None if parts is None else [part.start for part in parts]) == cuts
    for part in parts or ():
        assert part.start_pts == part.start * 100 + 7
        assert part.stop_pts == (None if part.stop == n_frames else part.stop * 100 + 7)
        assert part.seek_pts == max([key for key in keys if key < part.start], default=0) * 100 + 7


def test_what_cannot_be_divided_for_certain_stays_whole(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", steady(40), options=GROUPS)
    assert divide_video(clip, 10) is not None
    assert divide_video(clip, 0) is None
    assert divide_video(clip, 39) is None
    assert divide_video(tmp_path / "gone.mp4", 10) is None
    (tmp_path / "bad.mp4").write_bytes(b"not a video" * 99)
    assert divide_video(tmp_path / "bad.mp4", 10) is None
    fields = write_clip(tmp_path / "i.mp4", steady(40), options={"x264-params": "interlaced=1:keyint=10"})
    assert divide_video(fields, 10) is None
    one_group = write_clip(tmp_path / "g.mp4", steady(40), options={"x264-params": "keyint=400:scenecut=0"})
    assert divide_video(one_group, 10) is None
    raw = write_clip(tmp_path / "r.h264", steady(40), options=GROUPS)
    assert divide_video(raw, 10) is None


def test_a_listing_has_an_item_for_each_part_except_to_track(tmp_path: Path) -> None:
    write_clip(tmp_path / "b.mp4", steady(40), options=GROUPS)
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "bad.mp4").write_bytes(b"x")
    items = list_inputs(str(tmp_path), BatchConfig(task="detect", video_chunk=10)).items()
    assert [item.label for item in items] == [
        "a.jpg", "b.mp4 (frames 0 to 9)", "b.mp4 (frames 10 to 19)", "b.mp4 (frames 20 to 29)",
        "b.mp4 (frames 30 to 39)", "bad.mp4",
    ]  # fmt: skip
    assert [item.index for item in items] == list(range(6))
    for config in (BatchConfig(task="detect", video_chunk=0), BatchConfig(task="track", video_chunk=10)):
        whole = [item for item in list_inputs(str(tmp_path), config).items() if item.name == "b.mp4"]
        assert [item.frames for item in whole] == [None]
