"""What an opened SOURCE is: a stream of Frames with a clock, names for outputs and a record of what failed.

A bad picture among many is recorded in ``errors``, logged as one line and skipped, so a night's batch goes on; a bad
single input raises.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from vision.errors import InvalidInputError
from vision.io.camera import CameraReader
from vision.io.images import ImageLimits, decode_image, read_image
from vision.io.listing import ImageListing, relative_name
from vision.io.video import VideoReader
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
