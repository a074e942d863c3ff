"""Where the pictures of a tar shard lie in its file. Nothing is unpacked: names are only names, bytes only ranges."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from vision.io.images import IMAGE_SUFFIXES

COMPRESSED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")
# Headers are a few hundred bytes; one that claims more is damage, or wants our memory.
_MOST_HEADER_BYTES = 1024 * 1024


class TarDamage(Exception):  # noqa: N818 - it is reported with the members before it, and stops nothing
    """A tar ends before its end, or is none."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A picture in a tar: its name as rows tell it, and the bytes [offset, offset + length) of the file."""

    name: str
    offset: int
    length: int


def is_tar(name: str) -> bool:
    """Return whether a name is that of a tar without compression."""
    return name.lower().endswith(".tar")


def is_compressed_tar(name: str) -> bool:
    """Return whether a name is that of a compressed tar, whose members cannot be read apart."""
    return name.lower().endswith(COMPRESSED_SUFFIXES)


def read_members(file: BinaryIO) -> Iterator[TarMember]:
    """Yield the pictures in a tar, in its order; links, devices, sparse files and hidden members are left out.

    Raises:
        TarDamage: while iterating, where it is no tar or breaks off.
    """
    try:
        # cast: what is read from is smaller than what the stub asks for.
        with tarfile.open(fileobj=cast(BinaryIO, _Bounded(file)), mode="r:", errorlevel=0) as archive:
            while (member := archive.next()) is not None:
                # Otherwise the archive keeps all members that it has seen.
                archive.members = []  # type: ignore[attr-defined]
                name = _plain_name(member.name)
                if name and member.isreg() and not member.issparse() and member.size >= 0:
                    yield TarMember(name, member.offset_data, member.size)
            _check_end(file, archive.offset)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as exc:
        raise TarDamage(" ".join(str(exc).split()) or type(exc).__name__) from exc


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raise TarDamage where reading ended at something else than the end: tarfile takes any bad header for it."""
    file.seek(offset)
    if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise TarDamage(f"no header at byte {offset}, where one should be")


def _plain_name(name: str) -> str:
    """Return the name of a picture below its tar, without ways out of it; empty for everything else."""
    if PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES:
        return ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    parts = ["_" if part == ".." else part for part in parts]
    if any(part.startswith(".") for part in parts):
        return ""
    return "/".join(parts)


class _Bounded:
    """A file that is asked for headers only."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, unless they are too many for a header."""
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)
