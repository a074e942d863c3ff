"""Part of a video, decoded without what lies before it: the same frames that a whole read gives at those indices."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av.error
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vision.io.container import open_container, pick_stream
from vision.io.frame_range import FrameRange
from vision.io.images import DEFAULT_LIMITS
from vision.io.video import DecodeBudget, VideoReader
from vision.types import Frame

# How far before the wanted key frame to look for it, one after the other: where a container looks keys up by the time
# of decoding, or guesses the place in the file, a search may end behind it.
_STEPS_BACK_S = (0.0, 1.0, 10.0)


class VideoRangeReader(VideoReader):
    """An iterator over a range of the frames of one video file; otherwise like VideoReader, whose errors are its own.

    The decoder begins at ``seek_pts``; pictures before ``start_pts`` are its warming up, and damage in them is none of
    the range. ``truncated`` tells of damage inside, and of fewer frames than the range should have.

    Args:
        source: path of a video file.
        frames: which frames; None for all of them.
        max_pixels, name, budget: as of VideoReader.
    """

    def __init__(
        self,
        source: str | Path,
        frames: FrameRange | None,
        *,
        max_pixels: int = DEFAULT_LIMITS.max_pixels,
        name: str | None = None,
        budget: DecodeBudget | None = None,
    ) -> None:
        self._range = frames
        self._path = str(source)
        self._is_inside = frames is None
        self._first_index = 0 if frames is None else frames.start
        super().__init__(source, max_pixels=max_pixels, name=name, budget=budget)

    def _pictures(self) -> Iterator[VideoFrame]:
        """Yield the pictures of the range."""
        wanted = self._range
        if wanted is None:
            yield from super()._pictures()
            return
        total = wanted.stop - wanted.start
        count = 0
        for picture in super()._pictures():
            ticks = picture.pts if picture.pts is not None else picture.dts
            if ticks is None or ticks < wanted.start_pts:
                continue
            if count == total or (wanted.stop_pts is not None and ticks >= wanted.stop_pts):
                break
            self._is_inside = True
            count += 1
            yield picture
        if count < total:
            self._is_inside = True
            self._note_damage(f"{count} of {total} frames")

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from a key frame at or before ``seek_pts`` on, or all of them."""
        wanted = self._range
        if wanted is None or wanted.start == 0:
            yield from super()._packets()
            return
        time_base = self._stream.time_base or Fraction(1, 1000)
        for step_s in _STEPS_BACK_S:
            try:
                self._container.seek(wanted.seek_pts - round(step_s / time_base), stream=self._stream)
                packets = super()._packets()
                key = next((packet for packet in packets if packet.is_keyframe), None)
            except av.error.FFmpegError:
                continue
            if key is not None and key.pts is not None and key.pts <= wanted.seek_pts:
                yield key
                yield from packets
                return
        self._open_again()
        yield from super()._packets()

    def _open_again(self) -> None:
        """Go back to the beginning, wherever the searches ended; decoding all of it is slow and always right."""
        self._container.close()
        self._container = open_container(self._path, self.name, 10.0)
        self._stream = pick_stream(self._container, self.name)
        self._stream.thread_type = "AUTO"

    def _note_damage(self, reason: object) -> None:
        if self._is_inside:
            super()._note_damage(reason)


def read_range(
    source: str | Path, frames: FrameRange | None, *, max_pixels: int = DEFAULT_LIMITS.max_pixels
) -> Iterator[Frame]:
    """Yield the frames of a range of a video file and close it afterwards; errors are those of VideoRangeReader."""
    with VideoRangeReader(source, frames, max_pixels=max_pixels) as reader:
        yield from reader
