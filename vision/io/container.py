"""A video file or RTSP address to an opened FFmpeg container; the border where FFmpeg's errors become ours."""

from __future__ import annotations

import re
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vision.errors import MediaError

STREAM_SCHEMES = ("rtsp://", "rtsps://")

# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".flv",
    ".wmv", ".asf", ".ogv", ".mxf", ".3gp", ".3g2", ".mjpeg", ".mjpg", ".dv", ".h264", ".264", ".hevc",
    ".h265", ".265", ".obu", ".ivf", ".y4m", ".nut", ".vob", ".wtv", ".rm",
})
# fmt: on

# Playlist formats (hls, concat, dash) are left out: a file of that kind makes FFmpeg open other files and addresses.
_FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,live_flv,asf,ogg,mxf,nut,"
    "yuv4mpegpipe,mjpeg,gif,dv,vc1,rm,wtv"
)


def is_stream_address(source: str) -> bool:
    """Return whether the source is an RTSP address."""
    return source.lower().startswith(STREAM_SCHEMES)


def mask_credentials(address: str) -> str:
    """Return the address without user name and password, for messages and results.

    >>> mask_credentials("rtsp://admin:secret@10.0.0.5/cam")
    'rtsp://***@10.0.0.5/cam'
    """
    return re.sub(r"(?<=://)[^/]*@", "***@", address)


def open_container(source: str, name: str, timeout_s: float, *, file_timeout_s: float | None = None) -> InputContainer:
    """Return the opened file or connection; every FFmpeg error becomes a MediaError of one line.

    ``timeout_s`` is for addresses; ``file_timeout_s`` for files, whose streams may be slow to find: None is no limit.
    """
    if is_stream_address(source):
        options = {"rtsp_transport": "tcp", "timeout": str(int(timeout_s * 1_000_000))}
        address, advice = source, "check the address, the network and the camera"
    else:
        _check_file(source, name)
        # "file:" keeps a name such as "concat:a|b" from being taken for a protocol.
        options = {"format_whitelist": _FILE_FORMATS, "protocol_whitelist": "file"}
        address, advice = f"file:{source}", "pass a video file such as MP4, MKV, WebM, AVI or MPEG-TS"
    try:
        return av.open(address, mode="r", options=options, timeout=timeout_s if address == source else file_timeout_s)
    except (av.error.FFmpegError, OSError) as exc:
        raise MediaError(
            f"{name} cannot be opened as video: {describe_failure(exc)}; {advice}",
            expected="a video",
            actual=describe_failure(exc),
            path=None if address == source else source,
        ) from exc


def _check_file(source: str, name: str) -> None:
    path = Path(source)
    if not path.is_file():
        found = "a directory" if path.is_dir() else "no file of that name"
        raise MediaError(f"{name} must be a video file, found {found}; check the path", path=path)
    if path.stat().st_size == 0:
        raise MediaError(f"{name} must be a video file, found an empty file; export or download it again", path=path)


def pick_stream(container: InputContainer, name: str) -> VideoStream:
    """Return the first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise MediaError(f"{name} must hold a video stream, found none (sound only?); pass another file", path=name)


def frame_rate(stream: VideoStream) -> float | None:
    """Return the average frames a second, FFmpeg's guess for lack of it, or None."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate is not None and rate > 0:
            return float(rate)
    return None


def describe_failure(reason: object) -> str:
    """Return FFmpeg's words for an error without the address, which may hold a password."""
    return str(getattr(reason, "strerror", None) or reason)
