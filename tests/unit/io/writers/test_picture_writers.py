"""Annotated video and images."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from io_media import corners, quadrants
from io_results import make_detections, make_frame, make_result, make_tracks

from vision.errors import InvalidInputError, OutputExistsError
from vision.io.images import read_image
from vision.io.video import VideoReader
from vision.io.writers.images import ImagesWriter, safe_relative_path
from vision.io.writers.video import VideoWriter
from vision.types import Frame


def write_video(
    path: Path, times_s: list[float | None], *, size_hw: tuple[int, int] = (60, 80), **options: object
) -> Path:
    with VideoWriter(path, **options) as writer:
        for index, time_s in enumerate(times_s):
            frame = Frame(quadrants(*size_hw), index=index, timestamp_s=time_s)
            writer.write(frame, make_result(index))
    return path


def test_the_video_plays_in_a_browser(tmp_path: Path) -> None:
    path = write_video(tmp_path / "out.mp4", [index / 25 for index in range(10)], fps=25)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.frames) == (25, 10)
        assert stream.duration * stream.time_base == pytest.approx(0.4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_colours_survive_encoding(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "out.mp4", [0.0], fps=25)) as reader:
        image = next(reader).image
    assert corners(image) == ["red", "green", "blue", "white"]
    np.testing.assert_allclose(image[10, 10], (255, 0, 0), atol=6)
    np.testing.assert_allclose(image[50, 10], (0, 0, 255), atol=6)


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.05, 0.3, 1.2345, 1.3, 4.0]
    with VideoReader(write_video(tmp_path / "out.mp4", list(times), fps=25)) as reader:
        assert reader.duration_s == pytest.approx(4.04, abs=1e-3)
        np.testing.assert_allclose([frame.timestamp_s for frame in reader], times, atol=1e-5)


@pytest.mark.parametrize(
    ("fps", "step"), [(None, 1 / 25), (50, 1 / 50), (Fraction(30000, 1001), 1001 / 30000), (29.97, 1 / 29.97)]
)
def test_frames_without_timestamps_step_by_fps(tmp_path: Path, fps: float | None, step: float) -> None:
    with VideoReader(write_video(tmp_path / "out.mp4", [None] * 5, fps=fps)) as reader:
        np.testing.assert_allclose([frame.timestamp_s for frame in reader], np.arange(5) * step, atol=1e-4)


def test_equal_or_backward_times_are_pushed_forward(tmp_path: Path) -> None:
    with VideoReader(write_video(tmp_path / "out.mp4", [0.0, 0.04, 0.04, 0.02, 0.2], fps=25)) as reader:
        times = [frame.timestamp_s for frame in reader]
    assert len(times) == 5
    assert all(np.diff(times) > 0)
    assert times[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("size_hw", [(61, 81), (60, 81), (61, 80), (1, 1)])
def test_odd_sizes_are_padded(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    with VideoReader(write_video(tmp_path / "out.mp4", [0.0], size_hw=size_hw, fps=25)) as reader:
        assert reader.size_hw == tuple(side + side % 2 for side in size_hw)


def test_an_interrupted_video_plays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"

    def run() -> None:
        with VideoWriter(path, fps=25) as writer:
            for index in range(3):
                writer.write(make_frame(index, time_s=index / 25), make_result(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    with VideoReader(path) as reader:
        assert len(list(reader)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_a_video_without_frames_is_not_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        VideoWriter(tmp_path / "out.mp4").close()
    assert list(tmp_path.iterdir()) == []
    assert "there was no frame" in caplog.text


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4")
    writer.write(make_frame(), make_result())
    writer.abort()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_video_cannot_hold_is_refused(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "out.mp4") as writer:
        with pytest.raises(InvalidInputError, match="needs pictures"):
            writer.write(None, make_result())
        writer.write(make_frame(), make_result())
        with pytest.raises(InvalidInputError, match="one size"):
            writer.write(make_frame(1, (40, 40)), make_result(1))
    with pytest.raises(InvalidInputError, match="fps must be"):
        VideoWriter(tmp_path / "b.mp4", fps=0)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        VideoWriter(tmp_path / "out.mp4")


def test_images_keep_their_names_and_folders(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["a.png", "day 1/b.jpg", "day 1/b.JPEG", "c.webp", "c.tiff"]
    with ImagesWriter(out, relative_name=lambda frame: frame.source) as writer:
        for name in names:
            writer.write(make_frame(source=name), make_result(tracks=make_tracks((7, (10, 10, 30, 40)))))
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["a.png", "c.tiff.jpg", "c.webp.jpg", "day 1/b.JPEG", "day 1/b.jpg"]
    assert (out / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "day 1/b.JPEG").read_bytes().startswith(b"\xff\xd8")


def test_a_png_holds_the_drawn_pixels(tmp_path: Path) -> None:
    with ImagesWriter(tmp_path / "out") as writer:
        writer.write(make_frame(source="/data/a.png"), make_result(detections=make_detections((10, 20, 60, 50))))
    image = read_image(tmp_path / "out" / "a.png").image
    assert image[55, 70].tolist() == [90, 90, 90]
    assert image[50, 35].tolist() != [90, 90, 90]


def test_a_folder_with_files_is_refused_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        ImagesWriter(tmp_path)
    with ImagesWriter(tmp_path, overwrite=True) as writer:
        writer.write(make_frame(source="a.png"), make_result())
    assert read_image(tmp_path / "a.png").size_hw == (60, 80)
    with pytest.raises(InvalidInputError, match="cannot be made"):
        ImagesWriter(tmp_path / "a.png" / "out")


def test_two_inputs_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    with ImagesWriter(tmp_path / "out") as writer:
        writer.write(make_frame(source="x/a.png"), make_result())
        with pytest.raises(OutputExistsError):
            writer.write(make_frame(source="y/a.png"), make_result())


@pytest.mark.parametrize(
    "name", ["", "/etc/a.png", "../a.png", "a/../../b.png", "..\\a.png", "C:\\a.png", "C:a.png", "\\a.png", "a\x00.png"]
)
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"without '\.\.'"):
        safe_relative_path(name)
    with ImagesWriter(tmp_path / "out", relative_name=lambda _: name) as writer, pytest.raises(InvalidInputError):
        writer.write(make_frame(), make_result())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", ["a.png", "a/b/c.jpg", "..a.png", "a..b/c.png", ".hidden.png"])
def test_ordinary_names_are_kept(name: str) -> None:
    assert safe_relative_path(name).as_posix() == name
