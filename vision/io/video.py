"""Video on disk or from RTSP to upright RGB frames with exact timestamps: the first step of a frame's path for video.

Frames are decoded one at a time, so memory stays flat in the length of the video. Timestamps come from the stream
(pts times time base) and not from a frame count, which keeps variable frame rates true.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vision.errors import MediaError
from vision.io.container import (
    describe_failure,
    frame_rate,
    is_stream_address,
    mask_credentials,
    open_container,
    pick_stream,
)
from vision.io.images import DEFAULT_LIMITS, ImageLimits
from vision.types import Frame, ImageArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DecodeBudget:
    """How long a decoder may work without giving a picture; what then follows is taken for damage and not read.

    A file can hold gigabytes that look like a video and give no picture: decoding all of it would take hours.

    Attributes:
        packets: most packets in a row without a picture, >= 1. One is a frame or part of one; a decoder that begins
            between two key frames gives nothing until the second one.
        seconds: most time in a row without a picture, > 0; the time in which the caller has a frame does not count.
    """

    packets: int
    seconds: float


class VideoReader:
    """An iterator over the frames of one video; opened and checked at construction, read once.

    Pixels are those that are stored: a non-square pixel shape is not stretched out. The rotation and mirroring that a
    phone writes into the file are applied, so frames are upright.

    Args:
        source: path of a video file, or an rtsp:// address (TCP transport).
        max_pixels: largest frame accepted, width times height.
        timeout_s: for addresses: seconds to wait for the connection and for each read, > 0.
        name: what to write into Frame.source; the source itself by default, without credentials.
        budget: ends a file that keeps the decoder busy without giving pictures; None has patience without end.
        should_stop: asked before each packet, also in the constructor; once True, the video is over.

    Attributes:
        truncated: True once some part could not be read (a cut or damaged file, a lost connection). What can be
            decoded is delivered, and a warning is logged once.

    Raises:
        MediaError: no such file or address, not a video, no video stream, or not a single frame in it. While
            iterating, damage ends or thins the frames and sets ``truncated`` instead.
        LimitExceededError: a frame has more than max_pixels.
    """

    # Of the first frame that comes; other than 0 where only a part is read.
    _first_index = 0

    def __init__(
        self,
        source: str | Path,
        *,
        max_pixels: int = DEFAULT_LIMITS.max_pixels,
        timeout_s: float = 10.0,
        name: str | None = None,
        budget: DecodeBudget | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._budget, self._should_stop = budget, should_stop
        self.name = mask_credentials(str(source)) if name is None else name
        self.truncated = False
        self._limits = ImageLimits(max_pixels=max_pixels)
        self._is_live = is_stream_address(str(source))
        self._container = open_container(
            str(source), self.name, timeout_s, file_timeout_s=None if budget is None else budget.seconds
        )
        try:
            self._stream = pick_stream(self._container, self.name)
            self._check_size(self._stream.width, self._stream.height)
            # Threads over frames hold several pictures back; a live source wants the newest one.
            self._stream.thread_type = "SLICE" if self._is_live else "AUTO"
            self._frames = self._decode()
            # The first frame proves that the video can be decoded and tells its upright size.
            self._pending: Frame | None = next(self._frames, None)
            if self._pending is None:
                raise MediaError(
                    f"{self.name} has no frame that can be decoded; it is empty or damaged, export it again",
                    expected="at least one frame",
                    actual="none",
                    path=source,
                )
        except BaseException:
            self._container.close()
            raise
        self._size_hw = self._pending.size_hw

    @property
    def fps(self) -> float | None:
        """Average frames a second, or None when the stream does not tell."""
        return frame_rate(self._stream)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the upright frames in pixels."""
        return self._size_hw

    @property
    def duration_s(self) -> float | None:
        """Length in seconds as the header states it, or None (live, or not stated)."""
        if self._is_live:
            return None
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None if self._container.duration is None else self._container.duration / 1_000_000

    @property
    def frame_count(self) -> int | None:
        """Number of frames as the header states or implies it, or None; a damaged file holds fewer."""
        if self._stream.frames > 0:
            return int(self._stream.frames)
        if self.duration_s is None or self.fps is None:
            return None
        return max(1, round(self.duration_s * self.fps))

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        frame, self._pending = self._pending, None
        if frame is not None:
            return frame
        return next(self._frames)

    def close(self) -> None:
        """Close the file or connection; the frames delivered so far stay valid."""
        self._pending = None
        self._frames.close()
        self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _decode(self) -> Generator[Frame, None, None]:
        """Yield upright frames with timestamps that never go backwards."""
        start = self._stream.start_time
        last_s: float | None = None
        for index, picture in enumerate(self._pictures(), self._first_index):
            if picture.is_corrupt:
                self._note_damage("a picture is incomplete")
            self._check_size(picture.width, picture.height)
            ticks = picture.pts if picture.pts is not None else picture.dts
            if ticks is not None:
                start = ticks if start is None else min(start, ticks)
            timestamp_s = self._timestamp(ticks, start, index)
            if last_s is not None and timestamp_s is not None and timestamp_s <= last_s:
                # Clocks that jump back (joined recordings) would give a tracker a negative time step.
                timestamp_s = last_s + 1 / (self.fps or 25)
            last_s = timestamp_s
            yield Frame(_upright_rgb(picture), index=index, timestamp_s=timestamp_s, source=self.name)

    def _timestamp(self, ticks: int | None, start: int | None, index: int) -> float | None:
        """Return seconds from the start of the stream; raw streams without a clock count by their frame rate."""
        if ticks is not None and start is not None and self._stream.time_base is not None:
            return float((ticks - start) * self._stream.time_base)
        return None if self.fps is None else index / self.fps

    def _pictures(self) -> Iterator[VideoFrame]:
        """Yield decoded pictures; damage is noted and what follows it is still tried, as far as the budget goes."""
        packets = self._packets()
        fruitless, since_s = 0, time.monotonic()
        while not self._is_over(fruitless, since_s):
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as exc:
                self._note_damage(exc)
                return
            if packet is None:
                return
            if packet.is_corrupt:
                self._note_damage("a packet is cut short")
            fruitless += 1
            try:
                pictures = packet.decode()
            except av.error.EOFError:
                return
            except av.error.FFmpegError as exc:
                self._note_damage(exc)
                continue
            for picture in pictures:
                yield picture
                fruitless, since_s = 0, time.monotonic()

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield what the decoder gets, the empty packet that ends it included."""
        return self._container.demux(self._stream)

    def _is_over(self, fruitless: int, since_s: float) -> bool:
        """Return whether there is no use in another packet after so many, and since a time, without a picture."""
        if self._should_stop is not None and self._should_stop():
            return True
        budget = self._budget
        if budget is None or (fruitless < budget.packets and time.monotonic() - since_s < budget.seconds):
            return False
        self._note_damage(f"{fruitless} packets in a row give no picture")
        return True

    def _note_damage(self, reason: object) -> None:
        if not self.truncated:
            logger.warning(
                "%s is damaged or cut short (%s); going on with the frames that can be decoded",
                self.name,
                describe_failure(reason),
            )
        self.truncated = True

    def _check_size(self, width: int, height: int) -> None:
        self._limits.check_size((width, height), f"frames of {self.name}")


def read_video(
    source: str | Path, *, max_pixels: int = DEFAULT_LIMITS.max_pixels, timeout_s: float = 10.0
) -> Iterator[Frame]:
    """Yield the frames of a video file or RTSP address and close it afterwards; errors are those of VideoReader."""
    with VideoReader(source, max_pixels=max_pixels, timeout_s=timeout_s) as reader:
        yield from reader


def _upright_rgb(picture: VideoFrame) -> ImageArray:
    """Return uint8 [H, W, 3] RGB with the display matrix applied (multiples of 90 degrees and mirroring)."""
    rgb: ImageArray = np.asarray(picture.to_ndarray(format="rgb24"))
    matrix: Any = picture.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return rgb
    # Row vectors of 16.16 fixed point numbers: x' = a x + c y, y' = b x + d y (ISO 14496-12, 6.2.2).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        rgb = rgb.transpose(1, 0, 2)
        flip_columns, flip_rows = c < 0, b < 0
    else:
        flip_columns, flip_rows = a < 0, d < 0
    return np.ascontiguousarray(rgb[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])
