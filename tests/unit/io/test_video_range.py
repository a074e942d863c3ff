"""Parts of a video give the frames of the whole, bit for bit."""

from __future__ import annotations

import logging
from fractions import Fraction
from itertools import accumulate, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from io_media import write_clip

from vision.batch.video_parts import divide_video
from vision.errors import MediaError
from vision.io.frame_range import FrameRange
from vision.io.video import read_video
from vision.io.video_range import VideoRangeReader, read_range

OPEN_GOPS = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3:b-adapt=0"}
STEADY = [index / 25 for index in range(60)]
VARIABLE = list(islice(accumulate(cycle([0.04, 0.02, 0.1, 0.033]), initial=3.0), 60))
PLAIN: dict[str, Any] = {"codec": "mpeg4", "options": {"g": "10"}, "time_base": Fraction(1, 25)}
CASES: dict[str, tuple[str, list[float], dict[str, Any]]] = {
    "open groups": ("a.mp4", STEADY, {"options": OPEN_GOPS}),
    "open groups in a stream": ("a.ts", [time + 3 for time in STEADY], {"options": OPEN_GOPS}),
    "variable rate from 3 s": ("a.mkv", VARIABLE, {"options": OPEN_GOPS}),
    "MPEG-4": ("a.avi", STEADY, PLAIN),
    "MPEG-4 with pictures both ways": ("a.mp4", STEADY, {**PLAIN, "options": {"g": "10", "bf": "2"}}),
    "rotated": ("a.mp4", STEADY, {"options": OPEN_GOPS, "rotation": 90}),
    "VP9": ("a.webm", STEADY, {"codec": "libvpx-vp9", "options": {"g": "12"}}),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_are_the_whole(tmp_path: Path, case: str) -> None:
    name, times, options = CASES[case]
    path = write_clip(tmp_path / name, times, **options)
    parts = divide_video(path, 20)
    assert parts is not None
    assert len(parts) >= 3
    whole = list(read_video(path))
    for part in reversed(parts):
        with VideoRangeReader(path, part) as reader:
            frames = list(reader)
            assert not reader.truncated
        assert len(frames) == part.stop - part.start
        for frame, expected in zip(frames, whole[part.start : part.stop], strict=True):
            assert (frame.index, frame.timestamp_s, frame.source) == (
                expected.index, expected.timestamp_s, expected.source,
            )  # fmt: skip
            np.testing.assert_array_equal(frame.image, expected.image)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == len(whole)


def test_a_part_is_found_where_searches_end_behind_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", STEADY, options=OPEN_GOPS)
    parts = divide_video(path, 20)
    assert parts is not None
    part = FrameRange(parts[1].start, parts[1].stop, parts[1].start_pts, parts[1].stop_pts, -1)
    expected = [frame.image for frame in read_range(path, parts[1])]
    # No key frame lies before -1, so all searches fail.
    np.testing.assert_array_equal([frame.image for frame in read_range(path, part)], expected)


def test_no_range_is_the_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", STEADY[:5])
    assert [frame.index for frame in read_range(path, None)] == list(range(5))


def test_missing_frames_are_damage_of_their_part_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_clip(tmp_path / "a.mkv", STEADY, options=OPEN_GOPS)
    parts = divide_video(path, 20)
    assert parts is not None
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    with caplog.at_level(logging.WARNING):
        for part, is_damaged in zip(parts, [*[False] * (len(parts) - 1), True], strict=True):
            with VideoRangeReader(path, part) as reader:
                count = len(list(reader))
                assert reader.truncated == is_damaged
                assert (count < part.stop - part.start) == is_damaged
    assert len(caplog.records) == 1
    with pytest.raises(MediaError, match="no frame"):
        list(read_range(path, FrameRange(500, 510, 10**9, None, 10**9)))
