"""Result files that grow frame by frame, can be made safe at any moment, and are cut back to the last safe one."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from service.jobs.errors import CheckpointError
from service.jobs.folders import MAPS, RESULTS, TRACKS, JobFolder, sync_folder
from vision.geometry.rle import decode_label_map, encode_label_map
from vision.io.writers.jsonl import header_line, result_line
from vision.io.writers.mot import mot_rows
from vision.types import FrameResult, SegmentationMap

_LENGTH_BYTES = 4


class GrowingFile:
    """A file that is appended to.

    Args:
        path: the file; made, or cut to ``offset`` bytes, of which it must have as many.
        offset: bytes to keep; 0 begins anew.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._file: BinaryIO = path.open("r+b" if offset else "wb")
        self._file.truncate(offset)
        self._file.seek(offset)
        self.offset = offset

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self.offset += len(data)

    def sync(self) -> None:
        """Return once all that was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; bytes that no checkpoint knows may be lost."""
        self._file.close()


class TrackOutputs:
    """The files of the tracking phase, under their unfinished names until ``publish``; a context manager.

    Args:
        folder: of the job.
        offsets: what to keep of each file, from a checkpoint; empty to begin anew.
        header: of results.jsonl: the arguments of ``header_line``.
        with_maps: whether segmentation maps are kept for drawing.
    """

    def __init__(
        self, folder: JobFolder, offsets: Mapping[str, int], *, header: Mapping[str, Any], with_maps: bool
    ) -> None:
        self._folder = folder
        self._files: dict[str, GrowingFile] = {}
        try:
            for name in (TRACKS, RESULTS, *((MAPS,) if with_maps else ())):
                self._files[name] = GrowingFile(folder.part(name), offsets.get(name, 0))
        except BaseException:
            self.close()
            raise
        if not offsets:
            self._files[RESULTS].write(header_line(**header))

    def write(self, result: FrameResult) -> None:
        """Add a frame to each file."""
        self._files[TRACKS].write(mot_rows(result))
        self._files[RESULTS].write(result_line(result, segmentation=False))
        if MAPS in self._files:
            self._files[MAPS].write(map_bytes(result.segmentation))

    def sync(self) -> dict[str, int]:
        """Make all that was written safe; return the size of each file."""
        for file in self._files.values():
            file.sync()
        return {name: file.offset for name, file in self._files.items()}

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.offset for file in self._files.values())

    def publish(self) -> None:
        """Give the finished files their names."""
        self.sync()
        self.close()
        for name in self._files:
            self._folder.part(name).replace(self._folder.file(name))
        sync_folder(self._folder.path)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def check_sizes(folder: JobFolder, offsets: Mapping[str, int]) -> None:
    """Check that the unfinished files hold what a checkpoint says; raises CheckpointError."""
    for name, offset in offsets.items():
        part = folder.part(name)
        if folder.file(name).exists() and not part.exists():
            # Killed between giving the names and writing so into the queue.
            folder.file(name).replace(part)
        if not part.is_file() or part.stat().st_size < offset:
            raise CheckpointError(f"{name} must have {offset} bytes to go on from, it has fewer; begin anew")


def map_bytes(segmentation: SegmentationMap | None) -> bytes:
    """Return a map for the scratch file: its length in bytes, then compressed run lengths; no bytes without a map."""
    if segmentation is None:
        return (0).to_bytes(_LENGTH_BYTES, "big")
    row = {"class_names": segmentation.class_names, **encode_label_map(segmentation.labels)}
    packed = zlib.compress(orjson.dumps(row), 1)
    return len(packed).to_bytes(_LENGTH_BYTES, "big") + packed


def read_maps(path: Path) -> Iterator[SegmentationMap | None]:
    """Yield the maps of a scratch file, None for frames without one."""
    with path.open("rb") as file:
        while len(head := file.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
            packed = file.read(int.from_bytes(head, "big"))
            if not packed:
                yield None
                continue
            row = orjson.loads(zlib.decompress(packed))
            yield SegmentationMap(decode_label_map(row), tuple(row["class_names"]))
