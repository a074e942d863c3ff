"""Annotated H.264 video in MP4 that plays in a browser: yuv420p, index at the front, the source's own timestamps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vision.errors import InvalidInputError, MediaError
from vision.io.writers.atomic import AtomicFile
from vision.io.writers.base import Writer
from vision.render import Annotator
from vision.types import Frame, FrameResult, ImageArray

logger = logging.getLogger(__name__)

# The MPEG clock: all usual frame rates are whole numbers of its ticks, and real timestamps lose at most 6 microseconds.
_TIME_BASE = Fraction(1, 90_000)
_DEFAULT_FPS = 25.0
_BT709 = 1
_LIMITED_RANGE = 1


class VideoWriter(Writer):
    """Draws each result onto its frame and encodes it; an odd width or height is padded by one row or column.

    Args:
        path: output .mp4.
        fps: frames a second of the source, > 0, or None (25); used where frames carry no timestamp.
        class_names: name of each label.
        annotator: draws; by default one made from class_names.
        crf: x264 quality, 0 (lossless) to 51; 23 is its default.
        preset: x264 speed; veryfast keeps encoding below the cost of detection.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        fps: float | Fraction | None = None,
        class_names: Sequence[str] = (),
        annotator: Annotator | None = None,
        overwrite: bool = False,
        crf: int = 23,
        preset: str = "veryfast",
    ) -> None:
        rate = _DEFAULT_FPS if fps is None else fps
        if not 0 < rate < 1000:
            raise InvalidInputError(f"fps must be above 0 and below 1000, got {fps}; pass None when it is unknown")
        self._rate = Fraction(rate).limit_denominator(1001)
        self._annotator = annotator or Annotator(class_names)
        # No B-frames: at a variable frame rate their reordering makes the muxer state a length that cuts off the end.
        self._options = {"crf": str(crf), "preset": preset, "bf": "0"}
        self._output = AtomicFile(path, overwrite=overwrite)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._size_hw = (0, 0)
        self._last_pts = -1

    def write(self, frame: Frame | None, result: FrameResult) -> None:
        """Draw and encode one frame; its timestamp decides when it is shown."""
        if frame is None:
            raise InvalidInputError(
                "a video needs pictures, got a result without a frame; give SOURCE as well as detections"
            )
        picture = _pad_to_even(self._annotator.draw(frame, result))
        try:
            container, stream = self._open(picture)
            container.mux(stream.encode(self._to_video_frame(picture, frame.timestamp_s)))
        except av.error.FFmpegError as exc:
            raise MediaError(
                f"{self._output.path} cannot be encoded: {exc.strerror}; check the disk space", path=self._output.path
            ) from exc

    def close(self) -> None:
        """Finish the file so that it plays; without any frame no file is made and a warning is logged."""
        if not self._output.is_open:
            return
        if self._container is None or self._stream is None:
            logger.warning("%s is not written: there was no frame", self._output.path)
            self._output.abort()
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except av.error.FFmpegError as exc:
            raise MediaError(
                f"{self._output.path} cannot be finished: {exc.strerror}; check the disk space", path=self._output.path
            ) from exc
        self._output.commit()

    def abort(self) -> None:
        """Remove the unfinished file."""
        if self._output.is_open and self._container is not None:
            self._container.close()
        self._output.abort()

    def _open(self, picture: ImageArray) -> tuple[OutputContainer, VideoStream]:
        """Return container and stream, made at the first frame, whose size holds for all."""
        size_hw = picture.shape[0], picture.shape[1]
        if self._container is None or self._stream is None:
            # By path and not by file object: moving the index to the front reads the file again.
            options = {"movflags": "+faststart"}
            self._container = av.open(f"file:{self._output.part_path}", mode="w", format="mp4", options=options)
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
            self._stream.height, self._stream.width = size_hw
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = _TIME_BASE
            # Stated and used alike: players guess the matrix of an untagged file from its size.
            self._stream.codec_context.colorspace = _BT709
            self._stream.codec_context.color_primaries = _BT709
            self._stream.codec_context.color_trc = _BT709
            self._stream.codec_context.color_range = _LIMITED_RANGE
            self._size_hw = size_hw
        if size_hw != self._size_hw:
            raise InvalidInputError(
                f"all frames of a video must have one size, got {size_hw} after {self._size_hw} (height, width); "
                "save images instead"
            )
        return self._container, self._stream

    def _to_video_frame(self, picture: ImageArray, timestamp_s: float | None) -> VideoFrame:
        tick = _TIME_BASE.denominator
        pts = self._last_pts + round(tick / self._rate) if timestamp_s is None else round(timestamp_s * tick)
        if self._last_pts < 0:
            pts = max(pts, 0)
        # Never equal or backwards: the muxer refuses such frames.
        self._last_pts = pts = max(pts, self._last_pts + 1)
        rgb = VideoFrame.from_ndarray(picture, format="rgb24")
        encoded = rgb.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE)
        encoded.pts, encoded.time_base = pts, _TIME_BASE
        encoded.duration = round(tick / self._rate)
        return encoded


def _pad_to_even(image: ImageArray) -> ImageArray:
    """Return the image with its last row or column repeated where a side is odd: yuv420p halves both."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
