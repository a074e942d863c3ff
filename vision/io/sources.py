"""SOURCE of every command to a stream of Frames: image, directory, glob, list file, video, camera, RTSP or standard
input.

A bad picture among many is recorded in ``errors``, logged as one line and skipped, so a night's batch goes on; a bad
single input raises.
"""

from __future__ import annotations

import glob
import logging
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from vision.errors import InvalidInputError, MediaError
from vision.io.camera import CameraReader
from vision.io.images import (
    DEFAULT_LIMITS,
    HEADER_BYTES,
    IMAGE_SUFFIXES,
    ImageLimits,
    decode_image,
    is_image_header,
    read_image,
)
from vision.io.listing import ImageListing, list_directory, list_file, list_glob, relative_name
from vision.io.video import VideoReader, is_stream_address, mask_credentials
from vision.types import Frame

logger = logging.getLogger(__name__)

SourceKind = Literal["images", "video", "stream"]


class Source(ABC):
    """Frames of one SOURCE, read once and in order; a context manager that closes what it opened.

    Attributes:
        kind: "images" (files), "video" (one file with a clock) or "stream" (a camera or address; endless).
        name: short name for titles and output files.
        fps: frames a second, or None when the source has no clock.
        frame_count: expected number of frames, or None when unknown.
        errors: (path, message) of each input that failed and was skipped; grows while iterating.
    """

    kind: SourceKind

    def __init__(self, name: str, *, fps: float | None, frame_count: int | None) -> None:
        self.name = name
        self.fps = fps
        self.frame_count = frame_count
        self.errors: list[tuple[str, str]] = []

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; one is held at a time."""

    @abstractmethod
    def relative_name(self, frame: Frame) -> str:
        """Return the POSIX path below SOURCE under which outputs for this frame are filed."""

    def close(self) -> None:  # noqa: B027 - images hold nothing open
        """Release files, cameras and connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class ImageSource(Source):
    """Image files in order; Frame.index is the position in the listing, also when a file before it failed."""

    kind: SourceKind = "images"

    def __init__(self, listing: ImageListing, *, limits: ImageLimits, skip_bad: bool = True) -> None:
        super().__init__(listing.name, fps=listing.fps, frame_count=len(listing.paths))
        self.paths = listing.paths
        self._root = listing.root
        self._limits = limits
        self._skip_bad = skip_bad

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                frame = read_image(path, limits=self._limits, index=index)
            except InvalidInputError as exc:
                if not self._skip_bad:
                    raise
                logger.warning("skipped %s", exc)
                self.errors.append((str(path), str(exc)))
                continue
            timestamp_s = None if self.fps is None else index / self.fps
            yield Frame(frame.image, index=index, timestamp_s=timestamp_s, source=frame.source)

    def relative_name(self, frame: Frame) -> str:
        """Return the image's path below SOURCE."""
        return relative_name(Path(frame.source), self._root)


class VideoSource(Source):
    """Frames of a video file; ``errors`` names the file when its tail was damaged."""

    kind: SourceKind = "video"

    def __init__(self, reader: VideoReader, name: str) -> None:
        super().__init__(name, fps=reader.fps, frame_count=reader.frame_count)
        self.reader: VideoReader | CameraReader = reader

    def __iter__(self) -> Iterator[Frame]:
        yield from self.reader
        if self.reader.truncated:
            message = f"{self.reader.name} is damaged or cut short; only a part of it was read, export it again"
            self.errors.append((self.reader.name, message))

    def relative_name(self, frame: Frame) -> str:
        """Return ``<name>/<frame number from 1>.jpg``, the numbering of MOTChallenge."""
        return f"{self.name}/{frame.index + 1:06d}.jpg"

    def close(self) -> None:
        """Close the video."""
        self.reader.close()


class StreamSource(VideoSource):
    """Frames of a camera or an RTSP address, until it ends or is closed."""

    kind: SourceKind = "stream"

    def __init__(self, reader: VideoReader | CameraReader, name: str) -> None:
        Source.__init__(self, name, fps=reader.fps, frame_count=None)
        self.reader = reader


class SpooledVideoSource(VideoSource):
    """Video from standard input, kept in a temporary file until closed because video containers need to seek."""

    def __init__(self, reader: VideoReader, name: str, spool: Path) -> None:
        super().__init__(reader, name)
        self._spool = spool

    def close(self) -> None:
        """Close the video and delete the temporary file."""
        super().close()
        self._spool.unlink(missing_ok=True)


class BytesSource(Source):
    """One encoded image held in memory (standard input)."""

    kind: SourceKind = "images"

    def __init__(self, data: bytes, name: str, *, limits: ImageLimits) -> None:
        super().__init__(name, fps=None, frame_count=1)
        self._data = data
        self._limits = limits

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(decode_image(self._data, limits=self._limits, source=self.name), source="-")

    def relative_name(self, frame: Frame) -> str:
        """Return ``stdin.jpg``."""
        return f"{self.name}.jpg"


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
    if path.is_dir():
        return ImageSource(list_directory(path), limits=limits)
    if path.exists():
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
