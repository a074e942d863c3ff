from __future__ import annotations

import gc
import itertools
import logging
import time
import tracemalloc
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from io_media import corners, moving_picture, steady, write_clip

from vision.errors import LimitExceededError, MediaError
from vision.io.camera import CameraReader
from vision.io.video import DecodeBudget, VideoReader, read_video

UPRIGHT = ["red", "green", "blue", "white"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", steady(20))


def test_properties_of_a_plain_clip(clip: Path) -> None:
    with VideoReader(clip) as reader:
        assert reader.fps == 25
        assert reader.frame_count == 20
        assert reader.size_hw == (48, 64)
        assert reader.duration_s == pytest.approx(0.8)
        frames = list(reader)
        assert not reader.truncated
    assert [frame.index for frame in frames] == list(range(20))
    assert {frame.source for frame in frames} == {str(clip)}
    for frame in frames:
        # The moving bar proves that each index carries its own picture.
        assert np.abs(frame.image.astype(int) - moving_picture(frame.index)).mean() < 12


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.webm", "a.mov"])
def test_timestamps_of_every_container_start_at_zero_and_step_evenly(tmp_path: Path, name: str) -> None:
    codec, base = {"a.avi": ("mjpeg", Fraction(1, 25)), "a.webm": ("libvpx", Fraction(1, 1000))}.get(
        name, ("libx264", Fraction(1, 90_000))
    )
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frames = list(read_video(write_clip(tmp_path / name, steady(12), codec=codec, pix_fmt=pix_fmt, time_base=base)))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], steady(12), atol=1e-3)


def test_variable_frame_rate_keeps_exact_times(tmp_path: Path) -> None:
    times = [0, 0.04, 0.05, 0.2, 0.9, 0.91, 2.5, 2.5111]
    frames = list(read_video(write_clip(tmp_path / "vfr.mp4", times)))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], times, atol=1e-5)


@pytest.mark.parametrize("options", [{"bf": "3", "b-adapt": "0"}, {"bf": "0"}])
def test_b_frames_come_in_the_order_of_presentation(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_clip(tmp_path / "b.mp4", steady(30), options=options)
    with av.open(str(path)) as container:
        order = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
    assert (order != sorted(order)) == (options["bf"] == "3")
    frames = list(read_video(path))
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], steady(30), atol=1e-5)


def test_a_raw_stream_without_a_clock_counts_by_its_frame_rate(tmp_path: Path) -> None:
    with VideoReader(write_clip(tmp_path / "raw.h264", steady(10))) as reader:
        frames = list(reader)
    np.testing.assert_allclose([frame.timestamp_s for frame in frames], steady(10))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "turned.mp4", steady(3), rotation=rotation)
    stored = moving_picture(0)
    with VideoReader(path) as reader:
        frame = next(reader)
        assert reader.size_hw == frame.size_hw
    turned = np.rot90(stored, rotation // 90)
    assert frame.size_hw == turned.shape[:2]
    assert corners(frame.image) == corners(turned)


@pytest.mark.parametrize("rotation", [0, 90])
def test_mirroring_is_applied_after_the_rotation(tmp_path: Path, rotation: int) -> None:
    path = write_clip(tmp_path / "mirrored.mp4", steady(2), rotation=rotation, hflip=True)
    frame = next(read_video(path))
    assert corners(frame.image) == corners(np.rot90(moving_picture(0), rotation // 90)[:, ::-1])


@pytest.mark.parametrize("size_hw", [(49, 65), (48, 65), (49, 64), (17, 31)])
def test_odd_sizes(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "odd.mp4", steady(3), size_hw=size_hw, pix_fmt="yuv444p")
    frames = list(read_video(path))
    assert [frame.size_hw for frame in frames] == [size_hw] * 3
    assert corners(frames[0].image) == UPRIGHT


def test_one_frame(tmp_path: Path) -> None:
    with VideoReader(write_clip(tmp_path / "one.mp4", [0])) as reader:
        assert [frame.timestamp_s for frame in reader] == [0]


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_corrupt_tail_gives_what_is_there_and_one_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_clip(tmp_path / "tail.mp4", steady(100), options={"g": "10", "bf": "0"}, size_hw=(96, 128))
    data = bytearray(path.read_bytes())
    end = data.index(b"mdat") + int((len(data) - data.index(b"mdat")) * 0.6)
    garbage = np.random.default_rng(0).integers(0, 256, len(data) - end, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data[:end]) + (garbage if damage == "garbage" else b""))
    with caplog.at_level(logging.WARNING), VideoReader(path) as reader:
        frames = list(reader)
        assert reader.truncated
    assert 40 <= len(frames) < 100 if damage == "cut" else len(frames) >= 40
    np.testing.assert_allclose([frame.timestamp_s for frame in frames[:40]], steady(40), atol=1e-5)
    assert len(caplog.records) == 1
    assert "tail.mp4 is damaged or cut short" in caplog.text


def test_damage_in_the_middle_does_not_end_the_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "middle.mp4", steady(100), options={"g": "10", "bf": "0"}, size_hw=(96, 128))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + int((len(data) - data.index(b"mdat")) * 0.4)
    data[start : start + 400] = np.random.default_rng(0).integers(0, 256, 400, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with VideoReader(path) as reader:
        frames = list(reader)
        assert reader.truncated
    assert len(frames) > 80
    assert frames[-1].timestamp_s == pytest.approx(3.96)


def test_a_budget_ends_what_gives_no_pictures_and_a_stop_ends_everything(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", steady(100), options={"g": "100", "bf": "0"}, size_hw=(96, 128))
    with VideoReader(path, budget=DecodeBudget(packets=30, seconds=60.0)) as reader:
        assert len(list(reader)) == 100
        assert not reader.truncated
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(MediaError, match="no frame"):
        VideoReader(path, budget=DecodeBudget(packets=30, seconds=60.0))
    asked: list[int] = []

    def after_ten() -> bool:
        asked.append(1)
        return len(asked) > 10

    good = write_clip(tmp_path / "good.mp4", steady(100), options={"bf": "0"})
    with VideoReader(good, should_stop=after_ten) as reader:
        assert len(list(reader)) <= 10
        assert not reader.truncated
    assert len(asked) == 11


def test_times_never_go_backwards(tmp_path: Path) -> None:
    parts = [write_clip(tmp_path / f"{name}.ts", steady(10)).read_bytes() for name in "ab"]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    times = [frame.timestamp_s for frame in read_video(joined)]
    assert len(times) == 20
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


NOT_A_VIDEO = {
    "missing": (None, "no file of that name"),
    "empty": (b"", "an empty file"),
    "text": (b"this is not a video\n" * 50, "cannot be opened as video"),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/x.ts\n", "cannot be opened as video"),
    "concat": (b"ffconcat version 1.0\nfile 'clip.mp4'\n", "cannot be opened as video"),
}


@pytest.mark.parametrize("kind", NOT_A_VIDEO)
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, clip: Path, kind: str) -> None:
    content, reason = NOT_A_VIDEO[kind]
    path = tmp_path / "movie.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        VideoReader(path)
    message = str(caught.value)
    assert reason in message
    assert "movie.mp4" in message
    assert "\n" not in message


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="found a directory"):
        VideoReader(tmp_path)


def test_zero_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "zero.mp4", steady(20))
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(MediaError, match="no frame that can be decoded"):
        VideoReader(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="found none"):
        VideoReader(path)


def test_frames_are_limited_in_pixels(clip: Path) -> None:
    assert VideoReader(clip, max_pixels=48 * 64).size_hw == (48, 64)
    with pytest.raises(LimitExceededError, match="64 x 48"):
        VideoReader(clip, max_pixels=48 * 64 - 1)


def test_a_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("clip.mp4"), steady(2)).rename("concat:a|b.mp4")
    assert len(list(read_video("concat:a|b.mp4"))) == 2


@pytest.mark.parametrize("address", ["rtsp://user:secret@127.0.0.1:9/cam", "rtsps://user:secret@127.0.0.1:9/cam"])
def test_an_absent_stream_fails_fast_and_keeps_the_password(address: str) -> None:
    start = time.monotonic()
    with pytest.raises(MediaError, match="check the address") as caught:
        VideoReader(address, timeout_s=2)
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)
    assert "***@127.0.0.1" in str(caught.value)


def test_an_absent_camera_fails_fast() -> None:
    start = time.monotonic()
    with pytest.raises(MediaError, match="camera 63 must be plugged in"):
        CameraReader(63)
    assert time.monotonic() - start < 5


def test_frames_are_not_retained(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", steady(300))
    with VideoReader(path) as reader:
        alive: list[weakref.ref[np.ndarray]] = []
        most = 0
        for frame in reader:
            alive.append(weakref.ref(frame.image.base))
            del frame
            most = max(most, sum(reference() is not None for reference in alive))
    assert len(alive) == 300
    assert most <= 2


def test_memory_is_flat_in_the_length_of_the_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", steady(300), size_hw=(240, 320))
    tracemalloc.start()
    try:
        with VideoReader(path) as reader:
            for frame in reader:
                if frame.index == 50:
                    gc.collect()
                    early = tracemalloc.get_traced_memory()[0]
            late = tracemalloc.get_traced_memory()[0]
            peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    picture = 240 * 320 * 3
    assert late - early < picture
    assert peak < 8 * picture


def test_a_reader_can_be_left_early_and_closed_twice(clip: Path) -> None:
    reader = VideoReader(clip)
    first = next(reader)
    reader.close()
    reader.close()
    assert list(reader) == []
    assert corners(first.image) == UPRIGHT
