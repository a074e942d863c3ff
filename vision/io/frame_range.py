"""Which frames of a video somebody wants, in words that a demuxer understands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameRange:
    """Part of a video: the frames [start, stop) in order of presentation, from 0.

    Attributes:
        start, stop: frame indices of the whole video.
        start_pts, stop_pts: presentation times of the first frame and of the first one no longer wanted, in ticks of
            the stream; ``stop_pts`` is None at the end of the video.
        seek_pts: time of a key frame from which on the decoder gives whole pictures of this range.
    """

    start: int
    stop: int
    start_pts: int
    stop_pts: int | None
    seek_pts: int
