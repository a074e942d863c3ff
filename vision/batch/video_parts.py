"""Where a video may be cut, so that its parts can be decoded apart and give the frames of the whole.

Only packets are read here, nothing is decoded. A video whose packets do not tell its frames for certain stays whole.
Demuxers are native code for untrusted bytes, so that runs call this in processes of their own (dividers.py).
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.video.stream import VideoStream

from vision.errors import MediaError
from vision.io.container import open_container, pick_stream
from vision.io.frame_range import FrameRange

# One packet is one picture in these, and a key frame is a place to begin at.
_CODECS = frozenset(
    {"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vp8", "vp9", "av1", "libdav1d", "mjpeg", "prores"}
)
# Formats with times that do not depend on where reading began.
_FORMATS = frozenset({"mov", "matroska", "webm", "avi", "mpegts", "flv", "nut"})
# Clocks of MPEG streams start anew after 33 bits, and FFmpeg unrolls them from where it begins.
_CLOCK_FORMATS = frozenset({"mpegts", "mpeg"})
_CLOCK_END = 2**33
# FFmpeg's numbers for a field order that is not stated, and for whole pictures; the others are fields, of which two
# may make a frame.
_WHOLE_PICTURES = (0, 1)
_OPEN_TIMEOUT_S = 60.0
# Two weeks at 40 frames a second. Tables in a small file can claim any number of packets.
_MOST_FRAMES = 50_000_000

Ticks = npt.NDArray[np.int64]


def divide_video(path: str | Path, chunk: int, on_packet: Callable[[], None] = lambda: None) -> list[FrameRange] | None:
    """Return parts of about ``chunk`` frames, each beginning at a key frame, in order; None where it stays whole.

    That is where it is short, or has no key frames to cut at, or cannot be opened, or where presentation times are
    missing or doubled, a packet is damaged, or the frames that a decoder gives would not be the packets.

    Args:
        path: of a file. chunk: frames of a part. on_packet: called with each packet that was read.
    """
    if chunk <= 0:
        return None
    try:
        container = open_container(str(path), str(path), _OPEN_TIMEOUT_S, file_timeout_s=_OPEN_TIMEOUT_S)
    except MediaError:
        return None
    with container:
        try:
            stream = pick_stream(container, str(path))
            if not _is_divisible(container, stream, chunk):
                return None
            clock = _read_clock(container, stream, on_packet)
        except (MediaError, av.error.FFmpegError):
            return None
    return None if clock is None else _cut(*clock, chunk)


def _is_divisible(container: InputContainer, stream: VideoStream, chunk: int) -> bool:
    """Return whether what the headers say allows it; spares reading files that are short by their own account."""
    names = set(container.format.name.split(","))
    context = stream.codec_context
    return (
        not names.isdisjoint(_FORMATS)
        and context.name in _CODECS
        and int(context.field_order) in _WHOLE_PICTURES
        and bool(stream.time_base)
        and not 0 < stream.frames < least_length(chunk)
    )


def least_length(chunk: int) -> int:
    """Return the frames of the shortest video that is divided."""
    return chunk + math.ceil(chunk / 2)


def _read_clock(
    container: InputContainer, stream: VideoStream, on_packet: Callable[[], None]
) -> tuple[Ticks, Ticks] | None:
    """Return the presentation times of all frames and those of key frames, both ascending, or None."""
    times, keys = array("q"), array("q")
    for packet in container.demux(stream):
        on_packet()
        if packet.size == 0 and packet.pts is None:
            continue  # what ends the stream
        if packet.pts is None or packet.is_corrupt or packet.is_discard or packet.size == 0:
            return None
        if len(times) == _MOST_FRAMES:
            return None
        times.append(packet.pts)
        if packet.is_keyframe:
            keys.append(packet.pts)
        elif not keys:
            return None
    if not times:
        return None
    pts, key_pts = np.sort(np.array(times)), np.sort(np.array(keys))
    start = stream.start_time
    is_plain = (
        # Pictures shown before the first key frame need what is not there.
        times[0] == pts[0]
        and bool((np.diff(pts) > 0).all())
        # The zero of the timestamps must be known without the first frame.
        and start is not None
        and start <= pts[0]
    )
    if container.format.name in _CLOCK_FORMATS:
        is_plain = is_plain and pts[0] >= 0 and pts[-1] < _CLOCK_END
    return (pts, key_pts) if is_plain else None


def _cut(pts: Ticks, key_pts: Ticks, chunk: int) -> list[FrameRange] | None:
    """Return the parts between the key frames nearest to the multiples of ``chunk``."""
    n_frames = len(pts)
    key_indices = np.searchsorted(pts, key_pts).tolist()
    cuts = [0]
    # The last part has half a chunk at least; a longer one without a key frame near its multiple is not cut there.
    for target in range(chunk, n_frames - math.ceil(chunk / 2) + 1, chunk):
        place = bisect_left(key_indices, target)
        near = [key for key in key_indices[max(place - 1, 0) : place + 1] if abs(key - target) <= chunk // 2]
        best = min(near, key=lambda key: abs(key - target), default=0)
        if best > cuts[-1]:
            cuts.append(best)
    if len(cuts) == 1:
        return None
    parts = []
    for start, stop in zip(cuts, [*cuts[1:], n_frames], strict=True):
        # One key frame more: pictures shown before a key frame may be stored behind it and need the group before.
        before = max(key_indices.index(start) - 1, 0) if start else 0
        stop_pts = int(pts[stop]) if stop < n_frames else None
        parts.append(FrameRange(start, stop, int(pts[start]), stop_pts, int(key_pts[before])))
    return parts
