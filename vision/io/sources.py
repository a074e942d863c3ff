"""SOURCE of every command, opened: image, directory, glob, list file, video, camera, RTSP or standard input."""

from __future__ import annotations

import glob
import shutil
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from vision.errors import InvalidInputError, MediaError
from vision.io.camera import CameraReader
from vision.io.container import is_stream_address, mask_credentials
from vision.io.frame_sources import BytesSource, ImageSource, Source, SpooledVideoSource, StreamSource, VideoSource
from vision.io.images import DEFAULT_LIMITS, HEADER_BYTES, IMAGE_SUFFIXES, ImageLimits, is_image_header
from vision.io.listing import ImageListing, list_directory, list_file, list_glob
from vision.io.video import VideoReader

__all__ = ["Source", "open_source"]


def open_source(
    source: str | Path,
    *,
    limits: ImageLimits = DEFAULT_LIMITS,
    timeout_s: float = 10.0,
    stdin: BinaryIO | None = None,
) -> Source:
    """Return the opened SOURCE; use it in a ``with`` block and iterate once.

    Args:
        source: image or video file, directory, glob pattern, list.txt, camera number, rtsp:// address, or ``-`` for
            an image or a video on standard input. What a file is, is told by its first bytes and only then by its name.
        limits: largest image (pixels, bytes) and largest video frame (pixels).
        timeout_s: for addresses, seconds to wait for the connection and for each read.
        stdin: where ``-`` reads from; the process's standard input by default.

    Raises:
        InvalidInputError: nothing of that name, nothing to read in it, or an address that is not RTSP.
        MediaError: a video, camera or address that cannot be opened. A bad single image raises while iterating.
    """
    text = str(source)
    path = Path(text)
    if text == "-":
        return _open_stdin(stdin or sys.stdin.buffer, limits)
    if "://" in text:
        return _open_address(text, limits, timeout_s)
    # An empty name would be the current directory to Path, and is most likely an unset shell variable.
    if text and path.is_dir():
        return ImageSource(list_directory(path), limits=limits)
    if text and path.exists():
        return _open_file(path, limits)
    if text.isdecimal():
        return StreamSource(CameraReader(int(text), max_pixels=limits.max_pixels), f"camera{text}")
    if glob.has_magic(text):
        return ImageSource(list_glob(text), limits=limits)
    raise InvalidInputError(
        f"SOURCE must be an image, video, directory, glob, list.txt, camera number, rtsp:// address or -, "
        f"found nothing at {text or 'an empty name'}; check the path",
        expected="an existing input",
        actual="nothing of that name",
        path=path,
    )


def _open_address(address: str, limits: ImageLimits, timeout_s: float) -> Source:
    name = mask_credentials(address)
    if not is_stream_address(address):
        # No URL fetch by default: a service that fetches what a caller names can be turned against its own network.
        raise InvalidInputError(
            f"an address must begin with rtsp://, got {name}; download the file and pass its path",
            expected="rtsp://",
            actual=name,
        )
    reader = VideoReader(address, max_pixels=limits.max_pixels, timeout_s=timeout_s)
    return StreamSource(reader, "stream")


def _open_file(path: Path, limits: ImageLimits) -> Source:
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError as exc:
        raise MediaError(f"{path} cannot be read: {exc.strerror}; check its permissions", path=path) from exc
    suffix = path.suffix.lower()
    if is_image_header(head) or (suffix in IMAGE_SUFFIXES):
        listing = ImageListing((path,), path.parent, path.stem)
        return ImageSource(listing, limits=limits, skip_bad=False)
    if suffix == ".txt":
        return ImageSource(list_file(path), limits=limits)
    return VideoSource(VideoReader(path, max_pixels=limits.max_pixels), path.stem)


def _open_stdin(stdin: BinaryIO, limits: ImageLimits) -> Source:
    head = stdin.read(HEADER_BYTES)
    if not head:
        raise MediaError("standard input must carry an image or a video, got nothing; pipe a file into it")
    if is_image_header(head):
        data = head + stdin.read(limits.max_bytes + 1 - len(head))
        return BytesSource(data, "stdin", limits=limits)
    with tempfile.NamedTemporaryFile(prefix="stride32-", delete=False) as spool:
        spool_path = Path(spool.name)
        try:
            spool.write(head)
            shutil.copyfileobj(stdin, spool)
            spool.flush()
            reader = VideoReader(spool_path, max_pixels=limits.max_pixels, name="-")
        except BaseException:
            spool_path.unlink(missing_ok=True)
            raise
    return SpooledVideoSource(reader, "stdin", spool_path)
